-- Which of these names are in use?
-- KEYS: state more line held, for each.  Reply: for each nil, or the stored name ('' where its key says it all).
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function live(at)
  local state = redis.call('GET', KEYS[at])
  local form = state and string.sub(state, 1, 1)
  if form == 'H' then
    if tonumber(string.sub(state, 50, 65)) <= now then return false end
    local size, tail = string.match(state, '^%d+ %d+ %d+ (%d+) (.*)$', 67)
    return string.sub(tail, 1, size)
  end
  local numbers = form == 'G' and redis.call('HGET', KEYS[at + 1], 'm')
  if not numbers then return false end
  local _, _, _, _, _, _, _, name = cmsgpack.unpack(numbers)
  local last = redis.call('ZREVRANGE', KEYS[at + 3], 0, 0, 'WITHSCORES')[2]
  if last and tonumber(last) > now then return name end
  for _, owner in ipairs(redis.call('ZRANGEBYSCORE', KEYS[at + 2], '(0', '+inf')) do
    local record = redis.call('HGET', KEYS[at + 1], 'w' .. owner)
    if record and cmsgpack.unpack(record) > now then return name end
  end
  return false
end

local names = {}
for i = 1, #KEYS / 4 do names[i] = live(4 * i - 3) end
return names
