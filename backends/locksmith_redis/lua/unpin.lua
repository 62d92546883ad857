-- The cell is written: take back what pin did, unless another one is under way, or somebody has closed the name for
-- longer meanwhile.
-- KEYS: state more line held.  ARGV: what pin replied.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
--#include general.lua
local n = open(1, now)
local known = redis.call('HGET', n.more, 'p')
if known then
  local before, left, pins = cmsgpack.unpack(known)
  local live, mine = {}, tonumber(ARGV[1])
  for _, pin in ipairs(pins) do
    if pin == mine then
      mine = nil -- once: two may have begun in the same microsecond
    elseif pin > now then
      live[#live + 1] = pin
    end
  end
  if #live > 0 then
    redis.call('HSET', n.more, 'p', cmsgpack.pack(before, left, live))
  else
    redis.call('HDEL', n.more, 'p')
    if n.closed == left then n.closed = before end
  end
end
settle(n)
save(n)
return 1
