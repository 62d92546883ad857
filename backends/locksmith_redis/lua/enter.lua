-- Take permits of a name in the general form, or a place in its line; see acquire.lua for the words and the reply.
-- `at` is the index of the name's first key; `where`: waiter_ttl " " channel, or '' for a try.
local function enter(at, owner, ttl, rest, where, now)
  local permits, limit, delay, name, info = terms(rest)
  local n = open(at, now)
  if name ~= '' then n.name = name end
  settle(n)
  local place = redis.call('ZSCORE', n.line, owner)
  if place and string.byte(place) == 45 then -- "-": a tombstone
    save(n)
    return { -2, 0 }
  end
  local record = redis.call('HGET', n.more, 'h' .. owner)
  if record then
    local token = cmsgpack.unpack(record)
    redis.call('ZADD', n.held, now + ttl, owner)
    reach(n, now + ttl)
    save(n)
    return token
  end
  local wait, channel = string.match(where, '^(%d+) (.*)$')
  if place then
    local _, _, _, kept = cmsgpack.unpack(redis.call('HGET', n.more, 'w' .. owner))
    hear(n, owner, kept)
    save(n)
    return { tonumber(place), head_ends(n, owner) }
  end
  if n.used <= 0 and not n.head then
    n.limit = limit
  elseif n.limit ~= limit then
    save(n)
    return { -1, n.limit }
  end
  if not n.head and n.closed <= now and n.used + permits <= n.limit then
    local token = hold(n, owner, now + ttl, 0, permits, delay, info)
    save(n)
    return token
  end
  if not wait then
    save(n)
    return false
  end
  n.seq = math.max(n.seq + 1, now)
  redis.call('ZADD', n.line, n.seq, owner)
  wait = tonumber(wait)
  redis.call('HSET', n.more, 'w' .. owner, cmsgpack.pack(now + wait, permits, delay, wait, channel, info))
  reach(n, now + wait)
  if not n.head then
    n.head = owner
    arm(n, n.line) -- the key may be new
  end
  save(n)
  return { n.seq, head_ends(n, owner) }
end
