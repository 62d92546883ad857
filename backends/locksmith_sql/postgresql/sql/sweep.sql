-- Forget names and cells that nobody used for a day: a page of the table at a time, at most every ten seconds, whoever
-- comes first. Names that are being used right now are left for another time.
CREATE OR REPLACE FUNCTION {sweep}() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  l {lease};
  _now bigint := {now};
  _after text;
  _upto text := '';
  _seen bigint := 0;
  _old bigint := 0;
  item record;
BEGIN
  {pinned}
  SELECT sweep_key INTO _after FROM {meta} WHERE id = 1 AND abs(sweep_at - _now) >= 10000000 FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN RETURN; END IF;
  {relaxed}
  FOR item IN SELECT c.key, c.seen < _now - {memory} AS old FROM {lease} AS c WHERE c.key > _after ORDER BY c.key LIMIT 1000
  LOOP
    _seen := _seen + 1;
    _upto := item.key;
    CONTINUE WHEN NOT item.old;
    SELECT * INTO l FROM {lease} WHERE key = item.key AND seen < _now - {memory} FOR UPDATE SKIP LOCKED;
    CONTINUE WHEN NOT FOUND;
    -- Who died holding it, or in line for it, is ended by the rules.
    l := {settle}(l, _now);
    IF l.owner IS NULL AND l.used = 0 AND l.busy = 0 AND l.tombs = 0 AND l.closed <= _now THEN
      DELETE FROM {lease} WHERE key = l.key;
    ELSE
      PERFORM {save}(l, _now);
    END IF;
    _old := _old + 1;
    EXIT WHEN _old >= 100;
  END LOOP;
  UPDATE {meta} SET sweep_at = _now, sweep_key = CASE WHEN _seen < 1000 AND _old < 100 THEN '' ELSE _upto END
  WHERE id = 1;
  DELETE FROM {cell} WHERE key IN (SELECT key FROM {cell} WHERE sweep_at < _now ORDER BY sweep_at LIMIT 100 FOR UPDATE SKIP LOCKED)
    AND sweep_at < _now;
  DELETE FROM {pace_table}
  WHERE key IN (SELECT key FROM {pace_table} WHERE sweep_at < _now ORDER BY sweep_at LIMIT 1000 FOR UPDATE SKIP LOCKED)
    AND sweep_at < _now;
END $$;
