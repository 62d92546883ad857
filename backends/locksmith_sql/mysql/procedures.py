"""The rules of the store interface as stored procedures: one request, one transaction, one commit for every verb.

What a client would have to send as eight statements, holding a row lock through eight round trips (and for as long as
the process is stopped in between), the server does by itself. Nothing here depends on the session: moments are those of
UTC_TIMESTAMP, which knows no time zone, and the isolation level is named in each transaction.

Every verb first locks the row of its name in a statement of its own, and only then reads the clock and the line: under
READ COMMITTED each statement sees what was committed before it began, so whoever waited for the lock sees everything
that its last owner did. Then it expires what is due and grants from the head of the line (rule 5 of the interface).

MariaDB and MySQL understand the same text. Local variables are called v_*, the head of the line h_*, parameters p_*,
since a variable would hide a column of the same name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

NOW: Final = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"
"""Microseconds of the server's wall clock, as they were when the statement began."""
TOMBSTONE: Final = 60_000_000
"""Microseconds an abandoned owner is refused: longer than a stalled request lives."""
MEMORY: Final = 86_400_000_000
"""Microseconds a last token and a deleted cell's version are kept; the clock carries their growth across the gap."""
SWEEP_EVERY: Final = 10_000_000
SWEEP_PAGE: Final = 500

_TYPES: Final = {
    "KEY": "VARCHAR(160) CHARACTER SET ascii COLLATE ascii_bin",
    "WORD": "VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin",
    "INFO": "TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    "LIST": "LONGTEXT CHARACTER SET ascii COLLATE ascii_bin",
    "TOMBSTONE": str(TOMBSTONE),
    "MEMORY": str(MEMORY),
    "SWEEP_EVERY": str(SWEEP_EVERY),
    "SWEEP_PAGE": str(SWEEP_PAGE),
}

# One verb about one name, inside a transaction of its caller's. What comes back is (r_code, r_number, r_micros):
#   A acquire      0 refused, 1 granted (token), 2 in line (ticket, micros until the head has something to expire, or
#                  -1), 3 in use with another limit (that limit).                              p_flag: queue
#   B beat a grant, G is it held, R release: 1 yes, 0 not known.      p_number: token         p_flag: not yet confirmed
#   W beat a ticket: 0 gone, 1 granted (token), 2 in line as above.   p_number: ticket
#   X abandon.                                                                                  p_flag: tombstone
#   E evict: 1 yes, 0 not known.  p_number: token
#   S settle, and nothing else.
_STEP: Final = """
CREATE PROCEDURE {step}(
  IN p_verb CHAR(1) CHARACTER SET ascii, IN p_key {KEY}, IN p_name VARBINARY(1024), IN p_owner {WORD},
  IN p_client {WORD}, IN p_number BIGINT, IN p_permits BIGINT, IN p_limit BIGINT, IN p_ttl BIGINT,
  IN p_waiter_ttl BIGINT, IN p_delay BIGINT, IN p_info {INFO}, IN p_flag INT, IN p_bell INT,
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

  -- Ring before the work is done: whoever wakes up waits for the row, which is free when we have committed.
  IF p_bell AND p_verb IN ('R', 'X') THEN
    {QUIETLY}
    DO RELEASE_LOCK(CONCAT('locksmith:', p_owner));
    END;
  END IF;

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
"""

_BEGIN: Final = """
  DECLARE EXIT HANDLER FOR SQLEXCEPTION
  BEGIN
    ROLLBACK;
    RESIGNAL;
  END;
"""
_START: Final = """
  SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
  START TRANSACTION;
"""
# Where locks of GET_LOCK are not to be had (Galera), or not just now, nobody is woken by them, and that is all.
_QUIETLY: Final = "BEGIN DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;"

# One verb about one name, committed. p_bell: the owner's bell is hung up before its place in line can be seen, and rung
# by its release. A bell is a lock of GET_LOCK, which belongs to the session; see `wait` below.
_ONE: Final = """
CREATE PROCEDURE {one}(
  IN p_verb CHAR(1) CHARACTER SET ascii, IN p_key {KEY}, IN p_name VARBINARY(1024), IN p_owner {WORD},
  IN p_client {WORD}, IN p_number BIGINT, IN p_permits BIGINT, IN p_limit BIGINT, IN p_ttl BIGINT,
  IN p_waiter_ttl BIGINT, IN p_delay BIGINT, IN p_info {INFO}, IN p_flag INT, IN p_bell INT)
MODIFIES SQL DATA SQL SECURITY INVOKER
BEGIN
  DECLARE r_code INT;
  DECLARE r_number, r_micros BIGINT;
  {BEGIN}
  IF p_bell AND p_verb = 'A' THEN
    {QUIETLY}
    DO GET_LOCK(CONCAT('locksmith:', p_owner), 0);
    END;
  END IF;
  {START}
  CALL {step}(p_verb, p_key, p_name, p_owner, p_client, p_number, p_permits, p_limit, p_ttl, p_waiter_ttl, p_delay,
    p_info, p_flag, p_bell, r_code, r_number, r_micros);
  COMMIT;
  IF p_bell AND p_verb = 'A' AND r_code <> 2 THEN
    {QUIETLY}
    DO RELEASE_LOCK(CONCAT('locksmith:', p_owner));
    END;
  END IF;
  SELECT r_code, r_number, r_micros;
END
"""

# A client's word about many, in one transaction: "verb key owner number ttl flag;" for each, in the order of the keys,
# so that two clients never wait for each other. ttl is that of a waiter where the verb is W.
_MANY: Final = """
CREATE PROCEDURE {many}(IN p_client {WORD}, IN p_items {LIST})
MODIFIES SQL DATA SQL SECURITY INVOKER
BEGIN
  DECLARE v_from, v_to INT DEFAULT 1;
  DECLARE v_item VARCHAR(400) CHARACTER SET ascii COLLATE ascii_bin;
  DECLARE v_answers {LIST} DEFAULT '';
  DECLARE v_ttl, r_number, r_micros BIGINT;
  DECLARE r_code INT;
  {BEGIN}
  {START}
  SET v_to = LOCATE(';', p_items);
  WHILE v_to > 0 DO
    SET v_item = SUBSTRING(p_items, v_from, v_to - v_from);
    SET v_ttl = SUBSTRING_INDEX(SUBSTRING_INDEX(v_item, ' ', 5), ' ', -1);
    CALL {step}(LEFT(v_item, 1), SUBSTRING_INDEX(SUBSTRING_INDEX(v_item, ' ', 2), ' ', -1), NULL,
      SUBSTRING_INDEX(SUBSTRING_INDEX(v_item, ' ', 3), ' ', -1), p_client,
      SUBSTRING_INDEX(SUBSTRING_INDEX(v_item, ' ', 4), ' ', -1), 0, 0, v_ttl, v_ttl, 0, '',
      SUBSTRING_INDEX(v_item, ' ', -1), 0, r_code, r_number, r_micros);
    SET v_answers = CONCAT(v_answers, r_code, ' ', r_number, ' ', r_micros, ';');
    SET v_from = v_to + 1;
    SET v_to = LOCATE(';', p_items, v_from);
  END WHILE;
  COMMIT;
  SELECT v_answers;
END
"""

# Waiting for news of this client's tickets: looked for here, where a look costs no round trip. It returns at the first
# news that is not among the known owners. Between two looks it waits for the bell of whoever stands before p_number (in
# line, or holding the name): that bell is a lock which its session lets go of as soon as its release has locked the row
# of the name, and which is free too where that session is gone. So a release wakes one waiter, the next one, which then
# waits for the row: until the release is committed, though not until it is on the disk (nor is the lock of the row kept
# for so long; a crash in between also forgets whatever the waiter wrote). A bell that was
# rung once, or that nobody has hung up, is not waited for again: then a look follows after a tenth of the time in which
# nothing happened, within bounds. MySQL counts the patience of GET_LOCK in whole seconds, which SLEEP makes good.
_WAIT: Final = """
CREATE PROCEDURE {wait}(
  IN p_client {WORD}, IN p_known {LIST}, IN p_key {KEY}, IN p_owner {WORD}, IN p_number BIGINT, IN p_alone INT,
  IN p_idle BIGINT, IN p_least BIGINT, IN p_most BIGINT, IN p_bound BIGINT)
READS SQL DATA SQL SECURITY INVOKER
BEGIN
  DECLARE v_began BIGINT DEFAULT {NOW};
  DECLARE v_passed, v_found, v_pause BIGINT DEFAULT 0;
  DECLARE v_bell, v_rung {WORD};
  DECLARE v_got INT;
  DECLARE CONTINUE HANDLER FOR NOT FOUND BEGIN END;
  look: LOOP
    SELECT COUNT(*) INTO v_found FROM {news} WHERE client = p_client AND NOT FIND_IN_SET(owner, p_known);
    IF v_found > 0 OR v_passed < 0 OR v_passed >= p_bound THEN
      LEAVE look;
    END IF;
    SET v_pause = LEAST(GREATEST((p_idle + v_passed) DIV 10, p_least), p_most, p_bound - v_passed), v_bell = NULL,
      v_got = NULL;
    SELECT COALESCE(
        (SELECT owner FROM {line} WHERE `key` = p_key AND number < p_number ORDER BY number DESC LIMIT 1),
        (SELECT owner FROM {lease} WHERE `key` = p_key)
      ) INTO v_bell;
    -- Where it is our own, we hold the name since a moment ago, and the next look says so.
    IF v_bell IS NOT NULL AND v_bell <> p_owner AND NOT (v_bell <=> v_rung) THEN
      {QUIETLY}
      SET v_got = GET_LOCK(CONCAT('locksmith:', v_bell), IF(p_alone, p_bound - v_passed, v_pause) / 1000000);
      END;
      IF v_got = 1 THEN
        DO RELEASE_LOCK(CONCAT('locksmith:', v_bell));
        SET v_rung = v_bell;
        {QUIETLY}
        SELECT COUNT(*) INTO v_found FROM {lease} WHERE `key` = p_key LOCK IN SHARE MODE;
        END;
      END IF;
    END IF;
    IF v_got IS NULL OR (v_got = 0 AND {NOW} - v_began - v_passed < v_pause DIV 2) THEN
      DO SLEEP(v_pause / 1000000);
    END IF;
    SET v_passed = {NOW} - v_began;
  END LOOP;
  SELECT owner, number, token FROM {news} WHERE client = p_client;
END
"""

# Put a value, or delete with NULL. p_expect: a version, -1 whatever is there, -2 nothing. Comes back: 1 and the new
# version; 0 nothing to delete; 2 and the version found (NULL: none); 3 the guard is not held.
_WRITE: Final = """
CREATE PROCEDURE {write}(
  IN p_key {KEY}, IN p_name VARBINARY(1024), IN p_value MEDIUMBLOB, IN p_ttl BIGINT, IN p_expect BIGINT,
  IN g_key {KEY}, IN g_owner {WORD}, IN g_token BIGINT)
MODIFIES SQL DATA SQL SECURITY INVOKER
write_: BEGIN
  DECLARE v_now, v_version, v_number, v_micros BIGINT;
  DECLARE v_code, v_live INT DEFAULT 0;
  {BEGIN}
  {START}
  IF g_key IS NOT NULL THEN
    CALL {step}('G', g_key, NULL, g_owner, '', g_token, 0, 0, 0, 0, 0, '', 0, 0, v_code, v_number, v_micros);
    IF v_code = 0 THEN
      COMMIT;
      SELECT 3, NULL;
      LEAVE write_;
    END IF;
  END IF;
  -- A row to lock: nothing keeps two from finding none.
  INSERT INTO {cell} (`key`, name, version, sweep_at) VALUES (p_key, p_name, 0, {NOW})
    ON DUPLICATE KEY UPDATE `key` = p_key;
  SET v_now = {NOW};
  SELECT version, value IS NOT NULL AND (expires IS NULL OR expires > v_now) INTO v_version, v_live
    FROM {cell} WHERE `key` = p_key FOR UPDATE;
  IF p_expect <> -1 AND p_expect <> IF(v_live, v_version, -2) THEN
    ROLLBACK;
    SELECT 2, IF(v_live, v_version, NULL);
    LEAVE write_;
  END IF;
  IF p_value IS NULL AND NOT v_live THEN
    ROLLBACK;
    SELECT 0, 0;
    LEAVE write_;
  END IF;
  -- A deleted cell leaves its version behind for a day, so that versions grow across deletion.
  SET v_version = GREATEST(v_version + 1, v_now);
  UPDATE {cell} SET value = p_value, version = v_version, expires = v_now + p_ttl,
    sweep_at = IF(p_value IS NULL, v_now, v_now + p_ttl) + {MEMORY} WHERE `key` = p_key;
  COMMIT;
  SELECT 1, v_version;
END
"""

# Forget what nobody used for a day: the next page of names, each in a transaction of its own.
_SWEEP: Final = """
CREATE PROCEDURE {sweep}()
MODIFIES SQL DATA SQL SECURITY INVOKER
BEGIN
  DECLARE v_now, v_at, v_rows, v_seen, v_number, v_micros BIGINT;
  DECLARE v_code INT;
  DECLARE v_done INT DEFAULT 0;
  DECLARE v_from, v_upto, v_key {KEY};
  DECLARE idle CURSOR FOR SELECT `key` FROM {lease}
    WHERE `key` > v_from AND `key` <= v_upto AND seen < v_now - {MEMORY} ORDER BY `key`;
  DECLARE CONTINUE HANDLER FOR NOT FOUND SET v_done = 1;
  {BEGIN}
  {START}
  SET v_now = {NOW};
  SELECT sweep_key, sweep_at INTO v_from, v_at FROM {meta} WHERE id = 1 FOR UPDATE;
  IF ABS(v_now - v_at) < {SWEEP_EVERY} THEN
    COMMIT;
  ELSE
    SELECT MAX(page.`key`), COUNT(*) INTO v_upto, v_rows
      FROM (SELECT `key` FROM {lease} WHERE `key` > v_from ORDER BY `key` LIMIT {SWEEP_PAGE}) AS page;
    UPDATE {meta} SET sweep_key = IF(v_rows = {SWEEP_PAGE}, v_upto, ''), sweep_at = v_now WHERE id = 1;
    COMMIT;
    SET v_done = 0;
    OPEN idle;
    names: LOOP
      FETCH idle INTO v_key;
      IF v_done THEN
        LEAVE names;
      END IF;
      {START}
      SELECT seen INTO v_seen FROM {lease} WHERE `key` = v_key FOR UPDATE;
      IF v_seen < v_now - {MEMORY} THEN
        -- Whoever died holding it is expired by the rules.
        CALL {step}('S', v_key, NULL, '', '', 0, 0, 0, 0, 0, 0, '', 0, 0, v_code, v_number, v_micros);
        DELETE FROM {lease}
          WHERE `key` = v_key AND owner IS NULL AND used = 0 AND busy = 0 AND tombs = 0 AND closed = 0;
      END IF;
      COMMIT;
      SET v_done = 0;
    END LOOP;
    CLOSE idle;
    DELETE FROM {cell} WHERE sweep_at < v_now LIMIT 100;
    DELETE FROM {news} WHERE seen < v_now - {MEMORY} LIMIT 100;
  END IF;
END
"""

_ALL: Final = {"step": _STEP, "one": _ONE, "many": _MANY, "wait": _WAIT, "write": _WRITE, "sweep": _SWEEP}
VERSION: Final = 1
"""Part of the procedures' names: another locksmith may run beside this one, with procedures of its own."""


def names(prefix: str) -> Mapping[str, str]:
    """The quoted names of a namespace's procedures. A prefix is lower-case letters, digits and underscores."""
    return {word: f"`{prefix}_{word}_v{VERSION}`" for word in _ALL}


def ddl(prefix: str, tables: Mapping[str, str]) -> list[str]:
    """The statements that create the procedures."""
    parts = {"BEGIN": _BEGIN.strip(), "START": _START.strip(), "QUIETLY": _QUIETLY}
    known = {**_TYPES, "NOW": NOW, **tables, **names(prefix), **parts}
    return [text.format_map(known).strip() for text in _ALL.values()]
