-- The common case of a release by somebody who stood in line, with the fewest statements: the holder of a name with limit 1
-- hands it to the head of the line. Comes back: 1, or 0 where that takes thought (a head that is silent, a tombstone, a
-- lock_delay, a lease that is not held): then nothing was done, and step.sql thinks. p_flag: what this client was told is
-- to be forgotten.
--
-- The bell is rung last: whoever wakes up looks at the row, and waits for the commit that is about to come.
CREATE PROCEDURE {pass}(IN p_key {KEY}, IN p_owner {WORD}, IN p_client {WORD}, IN p_token BIGINT, IN p_flag INT)
MODIFIES SQL DATA SQL SECURITY INVOKER
BEGIN
  DECLARE v_now, v_expires, v_busy, h_number, h_expires, h_waiter_ttl, h_delay BIGINT;
  DECLARE h_owner, h_client {WORD};
  DECLARE h_info {INFO};
  DECLARE CONTINUE HANDLER FOR NOT FOUND BEGIN END;
  {BEGIN}
  {START}
  -- Lock the row first, in a statement of its own; the clock and the line are read afterwards.
  SELECT expires, busy INTO v_expires, v_busy FROM {lease}
    WHERE `key` = p_key AND owner = p_owner AND token = p_token AND tombs = 0 AND closed = 0 FOR UPDATE;
  SET v_now = {NOW};
  IF v_expires > v_now AND v_busy > 0 THEN
    SELECT number, owner, client, expires, waiter_ttl, delay, info
      INTO h_number, h_owner, h_client, h_expires, h_waiter_ttl, h_delay, h_info
      FROM {line} WHERE `key` = p_key ORDER BY number LIMIT 1;
  END IF;
  IF v_expires > v_now AND (v_busy = 0 OR h_expires > v_now) THEN
    IF p_flag THEN
      DELETE FROM {news} WHERE client = p_client AND owner = p_owner;
    END IF;
    IF v_busy = 0 THEN
      UPDATE {lease} SET owner = NULL, seen = v_now WHERE `key` = p_key;
    ELSE
      SET p_token = GREATEST(p_token + 1, v_now);
      DELETE FROM {line} WHERE `key` = p_key AND number = h_number;
      INSERT INTO {news} (client, owner, number, token, seen) VALUES (h_client, h_owner, h_number, p_token, v_now)
        ON DUPLICATE KEY UPDATE number = h_number, token = p_token, seen = v_now;
      UPDATE {lease} SET token = p_token, owner = h_owner, expires = v_now + h_waiter_ttl, since = v_now,
        ttl = h_waiter_ttl, delay = h_delay, info = h_info, busy = busy - 1, seen = v_now
        WHERE `key` = p_key;
    END IF;
    {QUIETLY}
    DO RELEASE_LOCK(CONCAT('locksmith:', p_owner));
    END;
    COMMIT;
    SELECT 1;
  ELSE
    ROLLBACK;
    SELECT 0;
  END IF;
END
