-- One verb about one name, inside a transaction of its caller's. What comes back is (r_code, r_number, r_micros):
--   A acquire      0 refused, 1 granted (token), 2 in line (ticket, micros until the head has something to expire, or
--                  -1), 3 in use with another limit (that limit).                              p_flag: queue
--   B beat a grant, G is it held, R release: 1 yes, 0 not known.      p_number: token         p_flag: not yet confirmed
--   W beat a ticket: 0 gone, 1 granted (token), 2 in line as above.   p_number: ticket
--   X abandon.                                                                                  p_flag: tombstone
--   E evict: 1 yes, 0 not known.  p_number: token
--   S settle, and nothing else.
CREATE PROCEDURE {step}(
  IN p_verb CHAR(1) CHARACTER SET ascii, IN p_key {KEY}, IN p_name VARBINARY(1024), IN p_owner {WORD},
  IN p_client {WORD}, IN p_number BIGINT, IN p_permits BIGINT, IN p_limit BIGINT, IN p_ttl BIGINT,
  IN p_waiter_ttl BIGINT, IN p_delay BIGINT, IN p_info {INFO}, IN p_flag INT,
  OUT r_code INT, OUT r_number BIGINT, OUT r_micros BIGINT)
MODIFIES SQL DATA SQL SECURITY INVOKER
step: BEGIN
  DECLARE v_now, v_token, v_limit, v_expires, v_since, v_ttl, v_delay, v_used, v_busy, v_tickets BIGINT;
  DECLARE v_tombs, v_closed, v_found, v_ends BIGINT;
  DECLARE v_dirty INT DEFAULT 0;
  DECLARE v_owner {WORD};
  DECLARE v_info, h_info {INFO};
  DECLARE h_number, h_permits, h_expires, h_waiter_ttl, h_delay BIGINT;
  DECLARE h_owner, h_client {WORD};
  DECLARE CONTINUE HANDLER FOR NOT FOUND BEGIN END;
  SET r_code = 0, r_number = 0, r_micros = -1;

  -- Lock the row first, in a statement of its own.
  REPEAT
    SELECT token, lim, owner, expires, since, ttl, delay, info, used, busy, tickets, tombs, closed
      INTO v_token, v_limit, v_owner, v_expires, v_since, v_ttl, v_delay, v_info, v_used, v_busy, v_tickets, v_tombs,
        v_closed
      FROM {lease} WHERE `key` = p_key FOR UPDATE;
    IF v_token IS NULL THEN
      IF p_verb <> 'A' AND NOT (p_verb = 'X' AND p_flag) THEN
        LEAVE step;
      END IF;
      INSERT INTO {lease} (`key`, name, lim, seen) VALUES (p_key, p_name, p_limit, {NOW})
        ON DUPLICATE KEY UPDATE `key` = p_key;
    END IF;
  UNTIL v_token IS NOT NULL END REPEAT;
  SET v_now = {NOW};

  -- A waiter that is late but was not passed over yet keeps its place: it is heard before anything is expired.
  IF p_verb = 'W' AND v_busy > 0 THEN
    UPDATE {line} SET expires = v_now + p_waiter_ttl, waiter_ttl = p_waiter_ttl
      WHERE `key` = p_key AND number = p_number;
  END IF;

  -- Expire what is due.
  IF v_owner IS NOT NULL AND v_expires <= v_now THEN
    SET v_closed = IF(v_delay > 0, GREATEST(v_closed, v_expires + v_delay), v_closed), v_owner = NULL, v_dirty = 1;
  END IF;
  IF v_used > 0 THEN
    SELECT SUM(permits), MAX(IF(delay > 0, expires + delay, 0)) INTO v_found, v_ends
      FROM {holder} WHERE `key` = p_key AND expires <= v_now;
    IF v_found IS NOT NULL THEN
      DELETE FROM {holder} WHERE `key` = p_key AND expires <= v_now;
      SET v_used = v_used - v_found, v_closed = GREATEST(v_closed, v_ends), v_dirty = 1;
    END IF;
  END IF;
  IF v_tombs > 0 THEN
    DELETE FROM {tomb} WHERE `key` = p_key AND expires <= v_now;
    SET v_tombs = v_tombs - ROW_COUNT(), v_dirty = 1;
  END IF;

  -- Take back what is given up.
  IF p_verb = 'X' THEN
    IF p_flag THEN
      INSERT IGNORE INTO {tomb} (`key`, owner, expires) VALUES (p_key, p_owner, 0);
      SET v_tombs = v_tombs + ROW_COUNT(), v_dirty = 1;
      UPDATE {tomb} SET expires = v_now + {TOMBSTONE} WHERE `key` = p_key AND owner = p_owner;
    END IF;
    IF v_busy > 0 THEN
      DELETE FROM {line} WHERE `key` = p_key AND owner = p_owner;
      SET v_busy = v_busy - ROW_COUNT(), v_dirty = 1;
    END IF;
  END IF;
  IF p_verb IN ('R', 'X', 'E') THEN
    IF v_owner IS NOT NULL THEN
      IF (p_verb = 'E' OR v_owner = p_owner) AND (p_verb = 'X' OR v_token = p_number) THEN
        SET v_owner = NULL, h_delay = v_delay, r_code = 1, v_dirty = 1;
      END IF;
    ELSEIF v_used > 0 THEN
      IF p_verb = 'E' THEN
        SELECT owner, permits, delay INTO h_owner, h_permits, h_delay
          FROM {holder} WHERE `key` = p_key AND token = p_number;
      ELSE
        SELECT owner, permits, delay INTO h_owner, h_permits, h_delay
          FROM {holder} WHERE `key` = p_key AND owner = p_owner AND (p_verb = 'X' OR token = p_number);
      END IF;
      IF h_owner IS NOT NULL THEN
        DELETE FROM {holder} WHERE `key` = p_key AND owner = h_owner;
        SET v_used = v_used - h_permits, r_code = 1, v_dirty = 1;
      END IF;
    END IF;
    IF p_verb = 'E' AND r_code = 1 AND h_delay > 0 THEN
      SET v_closed = GREATEST(v_closed, v_now + h_delay);
    END IF;
  END IF;
  IF v_closed > 0 AND v_closed <= v_now THEN
    SET v_closed = 0, v_dirty = 1;
  END IF;

  -- Grant from the head of the line. Nobody has confirmed such a grant yet: a lease of waiter_ttl.
  SET h_number = NULL;
  line: WHILE v_busy > 0 DO
    SET h_number = NULL;
    SELECT number, owner, client, permits, expires, waiter_ttl, delay, info
      INTO h_number, h_owner, h_client, h_permits, h_expires, h_waiter_ttl, h_delay, h_info
      FROM {line} WHERE `key` = p_key ORDER BY number LIMIT 1;
    IF h_number IS NULL THEN
      -- Somebody deleted rows by hand: the count follows.
      SET v_busy = 0, v_dirty = 1;
      LEAVE line;
    END IF;
    IF h_expires > v_now AND (v_closed > 0 OR IF(v_owner IS NULL, v_used, 1) + h_permits > v_limit) THEN
      LEAVE line;
    END IF;
    DELETE FROM {line} WHERE `key` = p_key AND number = h_number;
    SET v_busy = v_busy - 1, v_dirty = 1;
    IF h_expires > v_now THEN
      SET v_token = GREATEST(v_token + 1, v_now);
      IF v_limit = 1 THEN
        SET v_owner = h_owner, v_expires = v_now + h_waiter_ttl, v_since = v_now, v_ttl = h_waiter_ttl,
          v_delay = h_delay, v_info = h_info;
      ELSE
        INSERT INTO {holder} (`key`, owner, token, permits, expires, since, ttl, delay, info)
          VALUES (p_key, h_owner, v_token, h_permits, v_now + h_waiter_ttl, v_now, h_waiter_ttl, h_delay, h_info);
        SET v_used = v_used + h_permits;
      END IF;
      INSERT INTO {news} (client, owner, number, token, seen) VALUES (h_client, h_owner, h_number, v_token, v_now)
        ON DUPLICATE KEY UPDATE number = h_number, token = v_token, seen = v_now;
    END IF;
    SET h_number = NULL;
  END WHILE;

  CASE p_verb
  WHEN 'A' THEN
    acquire: BEGIN
      IF v_tombs > 0 THEN
        SELECT COUNT(*) INTO v_found FROM {tomb} WHERE `key` = p_key AND owner = p_owner;
        IF v_found > 0 THEN
          LEAVE acquire;
        END IF;
      END IF;
      -- Where the reply to an earlier try was lost: the same grant again, its ttl armed anew; the same place in line.
      IF v_owner = p_owner THEN
        SET v_expires = v_now + p_ttl, v_ttl = p_ttl, v_dirty = 1, r_code = 1, r_number = v_token;
        LEAVE acquire;
      END IF;
      IF v_used > 0 THEN
        SET v_found = NULL;
        SELECT token INTO v_found FROM {holder} WHERE `key` = p_key AND owner = p_owner;
        IF v_found IS NOT NULL THEN
          UPDATE {holder} SET expires = v_now + p_ttl, ttl = p_ttl WHERE `key` = p_key AND owner = p_owner;
          SET r_code = 1, r_number = v_found;
          LEAVE acquire;
        END IF;
      END IF;
      IF v_busy > 0 THEN
        SET v_found = NULL;
        SELECT number INTO v_found FROM {line} WHERE `key` = p_key AND owner = p_owner;
        IF v_found IS NOT NULL THEN
          UPDATE {line} SET expires = v_now + p_waiter_ttl, waiter_ttl = p_waiter_ttl
            WHERE `key` = p_key AND number = v_found;
          SET r_code = 2, r_number = v_found;
          LEAVE acquire;
        END IF;
      END IF;
      IF v_limit <> p_limit THEN
        IF v_owner IS NOT NULL OR v_used > 0 OR v_busy > 0 THEN
          SET r_code = 3, r_number = v_limit;
          LEAVE acquire;
        END IF;
        SET v_limit = p_limit, v_dirty = 1;
      END IF;
      IF v_busy = 0 AND v_closed = 0 AND IF(v_owner IS NULL, v_used, 1) + p_permits <= v_limit THEN
        SET v_token = GREATEST(v_token + 1, v_now), v_dirty = 1, r_code = 1, r_number = v_token;
        IF v_limit = 1 THEN
          SET v_owner = p_owner, v_expires = v_now + p_ttl, v_since = v_now, v_ttl = p_ttl, v_delay = p_delay,
            v_info = p_info;
        ELSE
          INSERT INTO {holder} (`key`, owner, token, permits, expires, since, ttl, delay, info)
            VALUES (p_key, p_owner, v_token, p_permits, v_now + p_ttl, v_now, p_ttl, p_delay, p_info);
          SET v_used = v_used + p_permits;
        END IF;
      ELSEIF p_flag THEN
        SET v_tickets = v_tickets + 1, v_busy = v_busy + 1, v_dirty = 1, r_code = 2, r_number = v_tickets;
        INSERT INTO {line} (`key`, number, owner, client, permits, expires, since, waiter_ttl, delay, info)
          VALUES (p_key, v_tickets, p_owner, p_client, p_permits, v_now + p_waiter_ttl, v_now, p_waiter_ttl, p_delay,
            p_info);
        IF h_number IS NULL THEN
          SET h_number = v_tickets, h_permits = p_permits;
        END IF;
      END IF;
    END;
  WHEN 'W' THEN
    SET v_found = NULL;
    IF v_busy > 0 THEN
      SELECT number INTO v_found FROM {line} WHERE `key` = p_key AND owner = p_owner;
    END IF;
    IF v_found = p_number THEN
      SET r_code = 2, r_number = v_found;
    ELSEIF v_owner = p_owner THEN
      SET r_code = 1, r_number = v_token;
    ELSE
      SET v_found = NULL;
      IF v_used > 0 THEN
        SELECT token INTO v_found FROM {holder} WHERE `key` = p_key AND owner = p_owner;
      END IF;
      IF v_found IS NULL THEN
        DELETE FROM {news} WHERE client = p_client AND owner = p_owner;
      ELSE
        SET r_code = 1, r_number = v_found;
      END IF;
    END IF;
  WHEN 'B' THEN
    IF v_owner = p_owner AND v_token = p_number THEN
      SET v_expires = v_now + p_ttl, v_ttl = p_ttl, v_dirty = 1, r_code = 1;
    ELSEIF v_used > 0 THEN
      SELECT COUNT(*) INTO r_code FROM {holder} WHERE `key` = p_key AND owner = p_owner AND token = p_number;
      UPDATE {holder} SET expires = v_now + p_ttl, ttl = p_ttl
        WHERE `key` = p_key AND owner = p_owner AND token = p_number;
    END IF;
  WHEN 'G' THEN
    IF v_owner = p_owner AND v_token = p_number THEN
      SET r_code = 1;
    ELSEIF v_used > 0 THEN
      SELECT COUNT(*) INTO r_code FROM {holder} WHERE `key` = p_key AND owner = p_owner AND token = p_number;
    END IF;
  ELSE
    BEGIN END;
  END CASE;

  -- What was told is told: a grant that is confirmed, or given up, needs no push any more.
  IF p_verb = 'X' OR (p_verb IN ('B', 'R') AND p_flag) THEN
    DELETE FROM {news} WHERE client = p_client AND owner = p_owner;
  END IF;

  IF r_code = 2 AND h_number = r_number THEN
    SET v_ends = v_now;
    IF IF(v_owner IS NULL, v_used, 1) + h_permits > v_limit THEN
      IF v_owner IS NOT NULL THEN
        SET v_ends = v_expires;
      ELSE
        SELECT MIN(expires) INTO v_ends FROM {holder} WHERE `key` = p_key;
      END IF;
    END IF;
    SET r_micros = GREATEST(v_closed, v_ends) - v_now;
  END IF;
  IF v_dirty THEN
    UPDATE {lease} SET token = v_token, lim = v_limit, owner = v_owner, expires = v_expires, since = v_since,
      ttl = v_ttl, delay = v_delay, info = v_info, used = v_used, busy = v_busy, tickets = v_tickets, tombs = v_tombs,
      closed = v_closed, seen = v_now
      WHERE `key` = p_key;
  END IF;
END
