-- What is known of a name; changes nothing.
-- KEYS: state more line held.
-- Reply: {limit, token, closed_for, name, holders, waiters}; per holder owner, token, permits, since, expires_in, info;
-- per waiter owner, permits, since, info. A limit of 0: nobody uses the name.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local state = redis.call('GET', KEYS[1])
local form = state and string.sub(state, 1, 1)
if not state then return { 0, 0, 0, '', {}, {} } end
local holders, waiters = {}, {}

local function add(list, ...)
  for _, value in ipairs({ ... }) do list[#list + 1] = value end
end

if form ~= 'G' then
  local token = tonumber(string.sub(state, 2, 17))
  if form == 'F' then return { 0, token, 0, '', {}, {} } end
  local ends = tonumber(string.sub(state, 50, 65))
  local delay, size, tail = string.match(state, '^%d+ %d+ (%d+) (%d+) (.*)$', 67)
  local name = string.sub(tail, 1, size)
  if ends <= now then return { 0, token, math.max(0, ends + delay - now), name, {}, {} } end
  add(holders, string.sub(state, 18, 49), token, 1, math.max(0, now - token), ends - now, string.sub(tail, size + 1))
  return { 1, token, 0, name, holders, waiters }
end
local numbers = redis.call('HGET', KEYS[2], 'm')
if not numbers then return { 0, 0, 0, '', {}, {} } end
local limit, _, last, _, closed, _, _, name = cmsgpack.unpack(numbers)
local held = redis.call('ZRANGE', KEYS[4], 0, -1, 'WITHSCORES')
for i = 1, #held, 2 do
  local record, ends = redis.call('HGET', KEYS[2], 'h' .. held[i]), tonumber(held[i + 1])
  if record then
    local token, _, since, permits, delay, info = cmsgpack.unpack(record)
    if ends > now then
      add(holders, held[i], token, permits, math.max(0, now - since), ends - now, info)
    elseif delay > 0 then
      closed = math.max(closed, ends + delay)
    end
  end
end
local line = redis.call('ZRANGEBYSCORE', KEYS[3], '(0', '+inf', 'WITHSCORES')
for i = 1, #line, 2 do
  local record = redis.call('HGET', KEYS[2], 'w' .. line[i])
  if record then
    local ends, permits, _, _, _, info = cmsgpack.unpack(record)
    if ends > now then add(waiters, line[i], permits, math.max(0, now - tonumber(line[i + 1])), info) end
  end
end
if #holders + #waiters == 0 then limit = 0 end
return { limit, last, math.max(0, closed - now), name, holders, waiters }
