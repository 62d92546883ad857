-- Undo a claim at any stage.
-- KEYS: state more line held.  ARGV: owner, microseconds of tombstone (0: none).
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local owner, tombstone = ARGV[1], tonumber(ARGV[2])
if tombstone == 0 then
  local state = redis.call('GET', KEYS[1])
  if not state then return 0 end
  if string.byte(state) ~= 71 then -- not "G"
    if string.sub(state, 18, 49) == owner and tonumber(string.sub(state, 50, 65)) > now then
      if redis.pcall('SET', KEYS[1], 'F' .. string.sub(state, 2, 17), 'KEEPTTL').err then
        redis.call('DEL', KEYS[1])
      end
    end
    return 0
  end
end
--#include general.lua
local n = open(1, now)
settle(n)
drop(n, owner)
quit(n, owner)
if tombstone > 0 then bury(n, owner, now + tombstone) end
settle(n)
save(n)
return 0
