-- Included by what writes cells: whether a grant is held. Its four keys begin at KEYS[2]; `word` is token and owner.
local function held(word, now)
  local state = redis.call('GET', KEYS[2])
  if not state then return false end
  if string.byte(state) ~= 71 then -- not "G"
    return string.sub(state, 1, 49) == 'H' .. word and tonumber(string.sub(state, 50, 65)) > now
  end
  local owner = string.sub(word, 17)
  local record = redis.call('HGET', KEYS[3], 'h' .. owner)
  return record and cmsgpack.unpack(record) == tonumber(string.sub(word, 1, 16))
    and tonumber(redis.call('ZSCORE', KEYS[5], owner) or 0) > now
end
