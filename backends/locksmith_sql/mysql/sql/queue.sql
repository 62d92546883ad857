-- The common case of an acquire in a crowd, with the fewest statements: get in line for a name with limit 1 that somebody
-- else holds. Comes back: the ticket, and microseconds until its holder's time is up where it is the head of the line,
-- else -1; or 0 where that takes thought (a free name, an owner known already, a head that is silent, a tombstone): then
-- nothing was done, and step.sql thinks. The owner's bell is hung up as in one.sql.
CREATE PROCEDURE {queue}(IN p_key {KEY}, IN p_owner {WORD}, IN p_client {WORD}, IN p_waiter_ttl BIGINT,
  IN p_delay BIGINT, IN p_info {INFO})
MODIFIES SQL DATA SQL SECURITY INVOKER
BEGIN
  DECLARE v_now, v_expires, v_number, v_busy, h_expires BIGINT;
  DECLARE v_micros BIGINT DEFAULT -1;
  DECLARE CONTINUE HANDLER FOR NOT FOUND BEGIN END;
  DECLARE EXIT HANDLER FOR SQLEXCEPTION
  BEGIN
    ROLLBACK;
    DO RELEASE_LOCK(CONCAT('locksmith:', p_owner));
    RESIGNAL;
  END;
  {QUIETLY}
  DO GET_LOCK(CONCAT('locksmith:', p_owner), 0);
  END;
  {START}
  SELECT expires, tickets + 1, busy INTO v_expires, v_number, v_busy FROM {lease}
    WHERE `key` = p_key AND owner <> p_owner AND lim = 1 AND tombs = 0 FOR UPDATE;
  SET v_now = {NOW};
  IF v_expires > v_now THEN
    IF v_busy = 0 THEN
      SET v_micros = v_expires - v_now, h_expires = v_expires;
    ELSE
      SELECT expires INTO h_expires FROM {line} WHERE `key` = p_key ORDER BY number LIMIT 1;
    END IF;
  END IF;
  IF h_expires > v_now THEN
    BEGIN
      DECLARE CONTINUE HANDLER FOR 1062 SET v_number = 0;
      INSERT INTO {line} (`key`, number, owner, client, permits, expires, since, waiter_ttl, delay, info)
        VALUES (p_key, v_number, p_owner, p_client, 1, v_now + p_waiter_ttl, v_now, p_waiter_ttl, p_delay, p_info);
    END;
  ELSE
    SET v_number = 0;
  END IF;
  IF v_number > 0 THEN
    UPDATE {lease} SET busy = busy + 1, tickets = v_number, seen = v_now WHERE `key` = p_key;
    COMMIT;
  ELSE
    ROLLBACK;
    {QUIETLY}
    DO RELEASE_LOCK(CONCAT('locksmith:', p_owner));
    END;
  END IF;
  SELECT v_number, v_micros;
END
