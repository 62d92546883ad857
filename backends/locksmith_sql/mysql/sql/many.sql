-- A client's word about many, in one transaction: "verb key owner number ttl flag;" for each, in the order of the keys,
-- so that two clients never wait for each other. ttl is that of a waiter where the verb is W.
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
      SUBSTRING_INDEX(v_item, ' ', -1), r_code, r_number, r_micros);
    SET v_answers = CONCAT(v_answers, r_code, ' ', r_number, ' ', r_micros, ';');
    SET v_from = v_to + 1;
    SET v_to = LOCATE(';', p_items, v_from);
  END WHILE;
  COMMIT;
  SELECT v_answers;
END
