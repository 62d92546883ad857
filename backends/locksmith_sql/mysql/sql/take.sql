-- Several exclusive names, or none of them, in one transaction: "key owner name;" for each, the name in hexadecimal digits
-- or empty, in the order of the keys, so that two clients never wait for each other. Each is asked for, and all are given
-- up where one was refused. What comes back is (1, "token token ..."), (0, NULL): refused, or (3, "limit place"): the name
-- at this place is in use with that limit.
CREATE PROCEDURE {take}(
  IN p_client {WORD}, IN p_items {LIST}, IN p_ttl BIGINT, IN p_waiter_ttl BIGINT, IN p_delay BIGINT, IN p_info {INFO})
MODIFIES SQL DATA SQL SECURITY INVOKER
BEGIN
  DECLARE v_from, v_to INT DEFAULT 1;
  DECLARE v_place INT DEFAULT 0;
  DECLARE v_item VARCHAR(2400) CHARACTER SET ascii COLLATE ascii_bin;
  DECLARE v_answers {LIST} DEFAULT '';
  DECLARE v_verb CHAR(1) CHARACTER SET ascii DEFAULT 'A';
  DECLARE v_code INT DEFAULT 1;
  DECLARE r_number, r_micros BIGINT;
  DECLARE r_code INT;
  {BEGIN}
  {START}
  SET v_to = LOCATE(';', p_items);
  WHILE v_to > 0 DO
    SET v_item = SUBSTRING(p_items, v_from, v_to - v_from), v_place = v_place + 1;
    CALL {step}(v_verb, SUBSTRING_INDEX(v_item, ' ', 1), UNHEX(NULLIF(SUBSTRING_INDEX(v_item, ' ', -1), '')),
      SUBSTRING_INDEX(SUBSTRING_INDEX(v_item, ' ', 2), ' ', -1), p_client, 0, 1, 1, p_ttl, p_waiter_ttl, p_delay, p_info,
      0, r_code, r_number, r_micros);
    IF v_verb = 'A' AND r_code <> 1 THEN
      -- From the first name on again: what was got is given up.
      SET v_verb = 'X', v_code = IF(r_code = 3, 3, 0), v_answers = IF(r_code = 3, CONCAT(r_number, ' ', v_place), NULL);
      SET v_from = 1;
    ELSE
      IF v_verb = 'A' THEN
        SET v_answers = CONCAT(v_answers, r_number, ' ');
      END IF;
      SET v_from = v_to + 1;
    END IF;
    SET v_to = LOCATE(';', p_items, v_from);
  END WHILE;
  COMMIT;
  SELECT v_code, v_answers;
END
