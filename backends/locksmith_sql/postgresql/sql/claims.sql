-- The verbs about one claim. Each is one statement for its client, and one transaction.

-- Answers {token}; {0, ticket, microseconds until something ends for the head or -1}; {-1, limit}: another one; NULL: no.
-- Without a `_client` to tell there is no place in line: a try.
CREATE OR REPLACE FUNCTION {acquire}(_key text, _name bytea, _owner text, _ttl bigint, _permits bigint, _limit bigint,
  _waiter_ttl bigint, _delay bigint, _info bytea, _client text) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
  l {lease};
  _now bigint := {now};
  _before bigint;
  _found bigint;
BEGIN
  IF _limit = 1 AND NOT EXISTS (
    SELECT FROM {lease} WHERE key = _key AND (busy > 0 OR (owner IS NOT NULL AND expires > _now))
  ) THEN
    -- A free name is taken at once. No row comes back where anything at all needs thought: a holder, a line, a
    -- tombstone, a lock_delay; then its row is locked all the same.
    INSERT INTO {lease} AS c (key, name, token, lim, owner, expires, since, ttl, delay, info, seen)
    VALUES (_key, _name, _now, 1, _owner, _now + _ttl, _now, _ttl, _delay, _info, _now)
    ON CONFLICT (key) DO UPDATE SET token = greatest(c.token + 1, excluded.token), lim = 1, owner = excluded.owner,
      expires = excluded.expires, since = excluded.since, ttl = excluded.ttl, delay = excluded.delay,
      info = excluded.info, closed = 0, seen = excluded.seen
    WHERE c.busy = 0 AND c.tombs = 0 AND c.used = 0 AND c.closed <= excluded.since
      AND (c.owner IS NULL OR (c.expires <= excluded.since AND c.delay = 0))
    RETURNING c.token INTO _found;
    IF FOUND THEN
      {durable}
      RETURN ARRAY[_found];
    END IF;
  END IF;
  {pinned}
  SELECT * INTO l FROM {lease} WHERE key = _key FOR UPDATE;
  IF NOT FOUND THEN l := {open}(_key, _name); END IF;
  _now := {now};
  -- In a crowd: behind a holder and a head of the line that both live there is nothing to settle. (Functions that take
  -- and return a whole row cost more than what they do here.)
  IF _limit = 1 AND _client IS NOT NULL AND l.owner <> _owner AND l.expires > _now AND l.tombs = 0 AND (
    l.busy = 0 OR (SELECT w.expires FROM {line} AS w WHERE w.key = _key ORDER BY w.number LIMIT 1) > _now
  ) THEN
    INSERT INTO {line} (key, number, owner, client, permits, expires, since, waiter_ttl, delay, info)
    VALUES (_key, l.tickets + 1, _owner, _client, _permits, _now + _waiter_ttl, _now, _waiter_ttl, _delay, _info)
    ON CONFLICT DO NOTHING;
    IF FOUND THEN
      UPDATE {lease} SET busy = busy + 1, tickets = tickets + 1, seen = _now WHERE key = _key;
      {relaxed}
      RETURN ARRAY[0, l.tickets + 1, CASE WHEN l.busy = 0 THEN greatest(l.closed, l.expires) - _now ELSE -1 END];
    END IF;
  END IF;
  _before := l.token;
  l := {settle}(l, _now);
  IF l.tombs > 0 AND EXISTS (SELECT FROM {tomb} WHERE key = _key AND owner = _owner) THEN
    PERFORM {save}(l, _now);
    RETURN NULL;
  END IF;
  _found := {token_of}(l, _owner);
  IF _found IS NOT NULL THEN
    -- The reply to an earlier try was lost: the same grant again, its ttl armed anew.
    {durable}
    IF l.owner = _owner THEN
      l.expires := _now + _ttl; l.ttl := _ttl;
    ELSE
      UPDATE {holder} SET expires = _now + _ttl, ttl = _ttl WHERE key = _key AND owner = _owner;
    END IF;
    PERFORM {save}(l, _now);
    RETURN ARRAY[_found];
  END IF;
  IF l.busy > 0 THEN
    UPDATE {line} SET expires = _now + _waiter_ttl, waiter_ttl = _waiter_ttl, client = coalesce(_client, client)
    WHERE key = _key AND owner = _owner RETURNING number INTO _found;
    IF FOUND THEN
      PERFORM {save}(l, _now);
      IF l.token = _before THEN {relaxed} END IF;
      RETURN ARRAY[0, _found, {head_ends}(l, _found, _now)];
    END IF;
  END IF;
  IF l.lim <> _limit AND (l.owner IS NOT NULL OR l.used > 0 OR l.busy > 0) THEN
    PERFORM {save}(l, _now);
    IF l.token = _before THEN {relaxed} END IF;
    RETURN ARRAY[-1, l.lim];
  END IF;
  l.lim := _limit;
  IF l.busy = 0 AND l.closed <= _now AND {taken} + _permits <= _limit THEN
    l := {hold}(l, _owner, _permits, _ttl, _delay, _info, _now);
    PERFORM {save}(l, _now);
    RETURN ARRAY[l.token];
  END IF;
  IF _client IS NOT NULL THEN
    l.tickets := l.tickets + 1;
    l.busy := l.busy + 1;
    INSERT INTO {line} (key, number, owner, client, permits, expires, since, waiter_ttl, delay, info)
    VALUES (_key, l.tickets, _owner, _client, _permits, _now + _waiter_ttl, _now, _waiter_ttl, _delay, _info);
  END IF;
  PERFORM {save}(l, _now);
  IF l.token = _before THEN {relaxed} END IF;
  IF _client IS NULL THEN RETURN NULL; END IF;
  RETURN ARRAY[0, l.tickets, CASE WHEN l.busy = 1 THEN {head_ends}(l, l.tickets, _now) ELSE -1 END];
END $$;

-- Several exclusive names, or none of them: each is asked for, and all are given up where one was refused. In the order
-- of the names, as beats do it, so that nobody waits for a row in a circle. Answers the tokens by place in the arrays;
-- {-1, limit, place}: in use with another one; NULL: no.
CREATE OR REPLACE FUNCTION {acquire_all}(_keys text[], _names bytea[], _owners text[], _ttl bigint, _waiter_ttl bigint,
  _delay bigint, _info bytea) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
  _tokens bigint[] := array_fill(0::bigint, ARRAY[cardinality(_keys)]);
  _answer bigint[];
  _place bigint;
  item record;
BEGIN
  {pinned}
  FOR item IN
    SELECT * FROM unnest(_keys, _names, _owners) WITH ORDINALITY AS t (key, name, owner, at)
    ORDER BY t.key
  LOOP
    _answer := {acquire}(item.key, item.name, item.owner, _ttl, 1, 1, _waiter_ttl, _delay, _info, NULL);
    IF cardinality(_answer) = 1 THEN
      _tokens[item.at] := _answer[1];
      CONTINUE;
    END IF;
    _place := item.at;
    FOR item IN SELECT * FROM unnest(_keys, _names, _owners) AS t (key, name, owner) ORDER BY t.key LOOP
      PERFORM {abandon}(item.key, item.name, item.owner, 0);
    END LOOP;
    {durable}  -- what was due of other names may have been granted on the way
    RETURN CASE WHEN _answer[1] = -1 THEN _answer || _place END;
  END LOOP;
  RETURN _tokens;
END $$;

-- Whether it was held. Losing a plain release in a crash costs a delay; a hand-over is a grant.
CREATE OR REPLACE FUNCTION {release}(_key text, _owner text, _token bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  l {lease};
  head {line};
  _now bigint := {now};
  _before bigint;
  _known boolean;
BEGIN
  UPDATE {lease} SET owner = NULL, seen = _now
  WHERE key = _key AND owner = _owner AND token = _token AND busy = 0 AND expires > _now;
  IF FOUND THEN
    {relaxed}
    RETURN true;
  END IF;
  {pinned}
  SELECT * INTO l FROM {lease} WHERE key = _key FOR UPDATE;
  IF NOT FOUND THEN RETURN false; END IF;
  _now := {now};
  -- In a crowd: to a head of the line that lives.
  IF l.owner = _owner AND l.token = _token AND l.expires > _now AND l.busy > 0 AND l.tombs = 0 AND l.closed <= _now THEN
    DELETE FROM {line} WHERE key = _key AND expires > _now
      AND number = (SELECT w.number FROM {line} AS w WHERE w.key = _key ORDER BY w.number LIMIT 1)
    RETURNING * INTO head;
    IF FOUND THEN
      {durable}
      l.token := greatest(l.token + 1, _now);
      UPDATE {lease} SET token = l.token, owner = head.owner, expires = _now + head.waiter_ttl, since = _now,
        ttl = head.waiter_ttl, delay = head.delay, info = head.info, busy = busy - 1, seen = _now
      WHERE key = _key;
      IF head.client <> '' THEN
        PERFORM pg_notify(head.client, head.owner || ' ' || head.number || ' ' || l.token);
      END IF;
      RETURN true;
    END IF;
  END IF;
  _before := l.token;
  _known := coalesce(l.owner = _owner AND l.token = _token AND l.expires > _now, false);
  IF NOT _known THEN
    l := {settle}(l, _now);
    _known := coalesce({token_of}(l, _owner) = _token, false);
  END IF;
  IF _known THEN
    l := {unhold}(l, _owner);
    l := {settle}(l, _now);
  END IF;
  PERFORM {save}(l, _now);
  IF l.token = _before THEN {relaxed} END IF;
  RETURN _known;
END $$;

-- Undo whatever became of a claim. With `_tomb`, microseconds, its owner is refused for so long.
CREATE OR REPLACE FUNCTION {abandon}(_key text, _name bytea, _owner text, _tomb bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
  l {lease};
  _now bigint;
  _before bigint;
BEGIN
  {pinned}
  SELECT * INTO l FROM {lease} WHERE key = _key FOR UPDATE;
  IF NOT FOUND THEN
    IF _tomb = 0 THEN RETURN; END IF;
    l := {open}(_key, _name);
  END IF;
  _now := {now};
  _before := l.token;
  l := {expire}(l, _now);  -- who was lost leaves a lock_delay, also where it is undone afterwards
  IF _tomb > 0 THEN
    UPDATE {tomb} SET expires = _now + _tomb WHERE key = _key AND owner = _owner;
    IF NOT FOUND THEN
      INSERT INTO {tomb} (key, owner, expires) VALUES (_key, _owner, _now + _tomb);
      l.tombs := l.tombs + 1;
    END IF;
  END IF;
  -- Before anything is granted: to whom is leaving nothing should be.
  l := {unhold}(l, _owner);
  IF l.busy > 0 THEN
    DELETE FROM {line} WHERE key = _key AND owner = _owner;
    IF FOUND THEN l.busy := l.busy - 1; END IF;
  END IF;
  l := {settle}(l, _now);
  PERFORM {save}(l, _now);
  IF l.token = _before THEN {relaxed} END IF;
END $$;

-- End the grant with this token as if its ttl had ended now. Whether there was one.
CREATE OR REPLACE FUNCTION {evict}(_key text, _token bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  l {lease};
  _now bigint;
  _owner text;
  _delay bigint;
BEGIN
  {pinned}
  SELECT * INTO l FROM {lease} WHERE key = _key FOR UPDATE;
  IF NOT FOUND THEN RETURN false; END IF;
  _now := {now};
  {durable}
  l := {settle}(l, _now);
  IF l.owner IS NOT NULL AND l.token = _token THEN
    _owner := l.owner; _delay := l.delay;
  ELSIF l.used > 0 THEN
    SELECT owner, delay INTO _owner, _delay FROM {holder} WHERE key = _key AND token = _token;
  END IF;
  IF _owner IS NOT NULL THEN
    l := {unhold}(l, _owner);
    IF _delay > 0 THEN l.closed := greatest(l.closed, _now + _delay); END IF;
    l := {settle}(l, _now);
  END IF;
  PERFORM {save}(l, _now);
  RETURN _owner IS NOT NULL;
END $$;
