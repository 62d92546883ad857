-- Take a name from the holder with this token, as if its ttl had ended now.
-- KEYS: state more line held.  ARGV: token.  Reply: 1, or 0: nobody has it.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
--#include general.lua
local n = open(1, now)
settle(n)
local token = tonumber(ARGV[1])
for _, owner in ipairs(redis.call('ZRANGE', n.held, 0, -1)) do
  local record = redis.call('HGET', n.more, 'h' .. owner)
  if record and cmsgpack.unpack(record) == token then
    drop(n, owner, now)
    settle(n)
    save(n)
    return 1
  end
end
save(n)
return 0
