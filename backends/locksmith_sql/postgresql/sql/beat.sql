-- One word about many grants and tickets, in the order of their names, so that two beats never wait for each other.
-- `_numbers` are tokens of grants and numbers of tickets. Answers, by place in the arrays: for a grant 1 (held) or 0; for
-- a ticket 0 (gone), 1 (waiting; `value` as in head_ends) or 2 (granted; `value` is the token).
CREATE OR REPLACE FUNCTION {beat}(_keys text[], _owners text[], _grants boolean[], _numbers bigint[], _ttls bigint[])
RETURNS TABLE (place bigint, answer bigint, value bigint) LANGUAGE plpgsql AS $$
DECLARE
  l {lease};
  _was {lease};
  _now bigint;
  _kept boolean := false;
  item record;
BEGIN
  {pinned}
  FOR item IN
    SELECT * FROM unnest(_keys, _owners, _grants, _numbers, _ttls) WITH ORDINALITY AS t (key, owner, held, number, ttl, at)
    ORDER BY t.key, t.held, t.at
  LOOP
    place := item.at;
    IF item.held AND item.key IS DISTINCT FROM l.key THEN
      -- As long as the holder of an exclusive name lives nothing is due and nobody can be granted.
      _now := {now};
      UPDATE {lease} AS c SET expires = _now + item.ttl, ttl = item.ttl, seen = _now
      WHERE c.key = item.key AND c.owner = item.owner AND c.token = item.number AND c.expires > _now;
      IF FOUND THEN
        answer := 1; value := 0; _kept := true;
        RETURN NEXT;
        CONTINUE;
      END IF;
    END IF;
    IF item.key IS DISTINCT FROM l.key THEN
      SELECT * INTO l FROM {lease} AS c WHERE c.key = item.key FOR UPDATE;
      IF NOT FOUND THEN
        answer := 0; value := 0;
        RETURN NEXT;
        CONTINUE;
      END IF;
      _now := {now};
      -- Who is late but was not passed over yet keeps its place: it is heard before anything is ended.
      UPDATE {line} AS w SET expires = _now + t.ttl, waiter_ttl = t.ttl
      FROM unnest(_keys, _grants, _numbers, _ttls) AS t (key, held, number, ttl)
      WHERE w.key = l.key AND t.key = l.key AND NOT t.held AND w.number = t.number;
      _was := l;
      l := {settle}(l, _now);
      IF l IS DISTINCT FROM _was THEN
        _kept := _kept OR l.token <> _was.token;
        PERFORM {save}(l, _now);
      END IF;
    END IF;
    value := {token_of}(l, item.owner);
    IF item.held THEN
      answer := CASE WHEN value = item.number THEN 1 ELSE 0 END;
      IF answer = 1 THEN
        _kept := true;
        IF l.owner = item.owner THEN
          l.expires := _now + item.ttl; l.ttl := item.ttl;
          PERFORM {save}(l, _now);
        ELSE
          UPDATE {holder} AS h SET expires = _now + item.ttl, ttl = item.ttl
          WHERE h.key = l.key AND h.owner = item.owner;
        END IF;
      END IF;
      value := 0;
    ELSIF value IS NOT NULL THEN
      answer := 2;
    ELSE
      PERFORM FROM {line} AS w WHERE w.key = l.key AND w.number = item.number AND w.owner = item.owner;
      answer := CASE WHEN FOUND THEN 1 ELSE 0 END;
      value := CASE WHEN FOUND THEN {head_ends}(l, item.number, _now) ELSE 0 END;
    END IF;
    RETURN NEXT;
  END LOOP;
  IF _kept THEN
    {durable}
  ELSE
    {relaxed}
  END IF;
END $$;
