-- Write a cell: version (16 digits), nonce of the writer (16), value.
-- KEYS: cell; with a guard also state more line held of its name.
-- ARGV: nonce, value, what is expected ("*" anything, "-" nothing, or a version), milliseconds of ttl (0: none), guard,
-- the moment after which this comes too late ("": never).
-- Reply: the version; {-1}: the guard is not held; {-2, version}: not as expected (0: no such cell); {-3}: too late.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if ARGV[6] ~= '' and now >= tonumber(ARGV[6]) then return { -3 } end
local cell = redis.call('GETRANGE', KEYS[1], 0, 31)
local found = tonumber(string.sub(cell, 1, 16)) or 0
-- Sent again after its reply was lost: written already.
if string.sub(cell, 17, 32) == ARGV[1] then return found end
--#include guard.lua
if ARGV[5] ~= '' and not held(ARGV[5], now) then return { -1 } end
if ARGV[3] ~= '*' and found ~= (tonumber(ARGV[3]) or 0) then return { -2, found } end
local version = math.max(found + 1, now)
local written = string.format('%016.0f', version) .. ARGV[1] .. ARGV[2]
if ARGV[4] == '0' then
  redis.call('SET', KEYS[1], written)
else
  redis.call('SET', KEYS[1], written, 'PX', ARGV[4])
end
return version
