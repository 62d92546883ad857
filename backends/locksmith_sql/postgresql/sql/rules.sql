-- The rules of one name. Whoever calls these has locked its row in a statement of its own: in READ COMMITTED the
-- statements that follow see everything that was committed before the lock was given. (One statement that both waited
-- for the row and read the line would read the line as it was before the wait.) `l` is that row, changed in memory and
-- written back once, by `save`.

-- The locked row of a name, which is made where it is missing.
CREATE OR REPLACE FUNCTION {open}(_key text, _name bytea) RETURNS {lease} LANGUAGE plpgsql AS $$
DECLARE
  l {lease};
BEGIN
  LOOP
    SELECT * INTO l FROM {lease} WHERE key = _key FOR UPDATE;
    EXIT WHEN FOUND;
    INSERT INTO {lease} (key, name, lim) VALUES (_key, _name, 1) ON CONFLICT DO NOTHING;
  END LOOP;
  RETURN l;
END $$;

-- Not in SQL, whose functions are planned anew by every transaction that calls them.
CREATE OR REPLACE FUNCTION {save}(l {lease}, _now bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  UPDATE {lease} SET token = l.token, lim = l.lim, owner = l.owner, expires = l.expires, since = l.since, ttl = l.ttl,
    delay = l.delay, info = l.info, used = l.used, busy = l.busy, tickets = l.tickets, tombs = l.tombs,
    closed = l.closed, seen = _now
  WHERE key = l.key;
END $$;

-- The token that this owner holds the name with, or NULL.
CREATE OR REPLACE FUNCTION {token_of}(l {lease}, _owner text) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
  IF l.owner = _owner THEN RETURN l.token; END IF;
  IF l.used = 0 THEN RETURN NULL; END IF;
  RETURN (SELECT token FROM {holder} WHERE key = l.key AND owner = _owner);
END $$;

-- Grant permits. What grants is on the disk before it is answered, whatever the session's setting.
CREATE OR REPLACE FUNCTION {hold}(INOUT l {lease}, _owner text, _permits bigint, _ttl bigint, _delay bigint,
  _info bytea, _now bigint) LANGUAGE plpgsql AS $$
BEGIN
  {durable}
  l.token := greatest(l.token + 1, _now);
  IF l.lim = 1 THEN
    l.owner := _owner; l.expires := _now + _ttl; l.since := _now; l.ttl := _ttl; l.delay := _delay; l.info := _info;
  ELSE
    INSERT INTO {holder} (key, owner, token, permits, expires, since, ttl, delay, info)
    VALUES (l.key, _owner, l.token, _permits, _now + _ttl, _now, _ttl, _delay, _info);
    l.used := l.used + _permits;
  END IF;
END $$;

-- Take the permits from a holder, if it is one.
CREATE OR REPLACE FUNCTION {unhold}(INOUT l {lease}, _owner text) LANGUAGE plpgsql AS $$
DECLARE
  _permits bigint;
BEGIN
  IF l.owner = _owner THEN
    l.owner := NULL;
  ELSIF l.used > 0 THEN
    DELETE FROM {holder} WHERE key = l.key AND owner = _owner RETURNING permits INTO _permits;
    l.used := l.used - coalesce(_permits, 0);
  END IF;
END $$;

-- End what is due, and grant nothing yet. Who is lost, and did not release, leaves its lock_delay.
CREATE OR REPLACE FUNCTION {expire}(INOUT l {lease}, _now bigint) LANGUAGE plpgsql AS $$
DECLARE
  ended record;
  gone bigint;
BEGIN
  IF l.owner IS NOT NULL AND l.expires <= _now THEN
    l.owner := NULL;
    IF l.delay > 0 THEN l.closed := greatest(l.closed, l.expires + l.delay); END IF;
  END IF;
  IF l.used > 0 THEN
    FOR ended IN DELETE FROM {holder} WHERE key = l.key AND expires <= _now RETURNING permits, expires, delay LOOP
      l.used := l.used - ended.permits;
      IF ended.delay > 0 THEN l.closed := greatest(l.closed, ended.expires + ended.delay); END IF;
    END LOOP;
  END IF;
  IF l.tombs > 0 THEN
    DELETE FROM {tomb} WHERE key = l.key AND expires <= _now;
    GET DIAGNOSTICS gone = ROW_COUNT;
    l.tombs := l.tombs - gone;
  END IF;
END $$;

-- End what is due, then grant from the head of the line, and tell each waiter's client on its own channel.
CREATE OR REPLACE FUNCTION {settle}(INOUT l {lease}, _now bigint) LANGUAGE plpgsql AS $$
DECLARE
  head {line};
BEGIN
  l := {expire}(l, _now);
  WHILE l.busy > 0 LOOP
    SELECT * INTO head FROM {line} WHERE key = l.key ORDER BY number LIMIT 1;
    IF NOT FOUND THEN  -- somebody deleted rows by hand: the count follows
      l.busy := 0;
      EXIT;
    END IF;
    EXIT WHEN head.expires > _now AND (l.closed > _now OR {taken} + head.permits > l.lim);
    DELETE FROM {line} WHERE key = l.key AND number = head.number;
    l.busy := l.busy - 1;
    IF head.expires > _now THEN
      -- Unconfirmed: for no longer than a silent waiter is kept, because it may be gone.
      l := {hold}(l, head.owner, head.permits, head.waiter_ttl, head.delay, head.info, _now);
      IF head.client <> '' THEN
        PERFORM pg_notify(head.client, head.owner || ' ' || head.number || ' ' || l.token);
      END IF;
    END IF;
  END LOOP;
END $$;

-- Microseconds until there will be something to end for the head of the line; -1 for everybody else.
CREATE OR REPLACE FUNCTION {head_ends}(l {lease}, _number bigint, _now bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  head record;
  free bigint := _now;  -- unless a holder, and not only a lock_delay, is in the way
BEGIN
  SELECT number, permits INTO head FROM {line} WHERE key = l.key ORDER BY number LIMIT 1;
  IF head.number IS DISTINCT FROM _number THEN RETURN -1; END IF;
  IF {taken} + head.permits > l.lim THEN
    IF l.owner IS NOT NULL THEN
      free := l.expires;
    ELSE
      SELECT expires INTO free FROM {holder} WHERE key = l.key ORDER BY expires LIMIT 1;
    END IF;
  END IF;
  RETURN greatest(l.closed, free, _now) - _now;
END $$;
