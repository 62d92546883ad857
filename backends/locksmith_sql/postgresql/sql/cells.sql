-- Write a cell, or delete it where `_value` is NULL. `_expect`: NULL anything, 0 nothing, else a version. The grant that
-- guards the write is locked first, so that nobody else gets the name before the write is committed.
-- Answers {version}, {0}: nothing to delete, {-1}: the guard is not held, {-2, version or 0}: not as expected.
CREATE OR REPLACE FUNCTION {write}(_key text, _name bytea, _value bytea, _expect bigint, _ttl bigint,
  _guard_key text, _guard_owner text, _guard_token bigint) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
  c {cell};
  _now bigint;
  _found bigint := 0;
  _fresh bigint;
BEGIN
  {pinned}
  {durable}
  IF _guard_key IS NOT NULL THEN
    PERFORM FROM {lease} WHERE key = _guard_key FOR SHARE;
    _now := {now};
    PERFORM FROM {lease}
    WHERE key = _guard_key AND owner = _guard_owner AND token = _guard_token AND expires > _now
    UNION ALL
    SELECT FROM {holder}
    WHERE key = _guard_key AND owner = _guard_owner AND token = _guard_token AND expires > _now;
    IF NOT FOUND THEN RETURN ARRAY[-1]; END IF;
  END IF;
  LOOP
    SELECT * INTO c FROM {cell} WHERE key = _key FOR UPDATE;
    EXIT WHEN FOUND OR _value IS NULL;
    -- A row to lock, as a deleted cell leaves one.
    INSERT INTO {cell} (key, name, sweep_at) VALUES (_key, _name, {now} + {memory}) ON CONFLICT DO NOTHING;
  END LOOP;
  _now := {now};
  IF c.value IS NOT NULL AND (c.expires IS NULL OR c.expires > _now) THEN _found := c.version; END IF;
  IF _found <> _expect THEN RETURN ARRAY[-2, _found]; END IF;
  IF _value IS NULL AND _found = 0 THEN RETURN ARRAY[0]; END IF;
  -- A deleted cell leaves its version behind for a day, so that versions grow across deletion.
  _fresh := greatest(c.version + 1, _now);
  UPDATE {cell} SET value = _value, version = _fresh, expires = _now + _ttl,
    sweep_at = CASE WHEN _value IS NULL THEN _now + {memory} ELSE _now + _ttl + {memory} END
  WHERE key = _key;
  RETURN ARRAY[_fresh];
END $$;
