-- Book the next slot of a key: locksmith.pacing.decide. _terms: full, back and step of each rate, in nanoseconds.
-- Answers {nanoseconds from now to the slot, now}; where nothing was booked the first is negative.
CREATE OR REPLACE FUNCTION {pace}(_key text, _terms bigint[], _at_most bigint, _lasting boolean)
RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
  r {pace_table};
  _now bigint;
  _rates integer := cardinality(_terms) / 3;
  _last bigint := -9007199254740992;
  _leads bigint[];
  _passed bigint;
  _slot bigint;
  _lives bigint := 0;
BEGIN
  {pinned}
  LOOP
    SELECT * INTO r FROM {pace_table} WHERE key = _key FOR UPDATE;
    EXIT WHEN FOUND;
    INSERT INTO {pace_table} (key) VALUES (_key) ON CONFLICT DO NOTHING;
  END LOOP;
  _now := {now};
  IF r.leads = '' THEN
    _leads := array_fill(_last, ARRAY[_rates]);
    r.seen := _now;
  ELSE
    _passed := greatest(0, _now - r.seen) * 1000;
    _last := r.last - _passed;
    _leads := string_to_array(r.leads, ' ')::bigint[];
    IF cardinality(_leads) <> _rates THEN
      _leads := array_fill((SELECT max(lead) FROM unnest(_leads) AS lead), ARRAY[_rates]);
    END IF;
    FOR i IN 1 .. _rates LOOP
      _leads[i] := least(_leads[i] - _passed, _last + _terms[3 * i - 2]);
    END LOOP;
  END IF;
  _slot := greatest(0, _last);
  FOR i IN 1 .. _rates LOOP
    _slot := greatest(_slot, _leads[i] + _terms[3 * i - 1]);
  END LOOP;
  IF _slot <= _at_most THEN
    _last := _slot;
    FOR i IN 1 .. _rates LOOP
      _leads[i] := greatest(_leads[i], _slot) + _terms[3 * i];
    END LOOP;
  ELSE
    -- Where the clock was set back this is written too, or time would stand still until it has caught up.
    IF _now >= r.seen THEN RETURN ARRAY[-_slot, _now]; END IF;
  END IF;
  FOR i IN 1 .. _rates LOOP
    _lives := greatest(_lives, _leads[i] + _terms[3 * i - 2]);
  END LOOP;
  IF _lasting THEN
    {durable}
  ELSE
    {relaxed}
  END IF;
  -- By the hour, so that the index over it is not written each time.
  UPDATE {pace_table} SET seen = _now, last = _last, leads = array_to_string(_leads, ' '),
    sweep_at = ((_now + _lives / 1000) / {hour} + 1) * {hour}
  WHERE key = _key;
  RETURN ARRAY[CASE WHEN _slot <= _at_most THEN _slot ELSE -_slot END, _now];
END $$;
