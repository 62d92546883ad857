-- Give a grant back as release.lua does, and tell whoever waits for this name, on any client, to try again.
-- KEYS: state more line held.  ARGV: token (16 digits) and owner in one, channel, name.  Reply: as release.lua.
local function give_back()
--#include release.lua
end
local known = give_back()
if known == 1 then redis.call('PUBLISH', ARGV[2], ARGV[3]) end
return known
