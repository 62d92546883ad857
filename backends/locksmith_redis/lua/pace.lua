-- Book the next slot of a key: locksmith.pacing.decide, on this server's clock.
-- KEYS: the state, doubles: seen last lead...  ARGV: doubles: at_most, and full back step for each rate; see pacing.Terms.
-- Reply: {nanoseconds from now to the slot, now}; where nothing was booked the first is negative.
-- All numbers are whole and below 2^53 (pacing.HORIZON), so doubles know them exactly.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local state = redis.call('GET', KEYS[1])
local terms = { struct.unpack(ARGV[2], ARGV[1]) }
local at_most, rates = terms[1], (#terms - 2) / 3
local last, leads, seen = -9007199254740992, {}, now
if state then
  local old = { struct.unpack('>' .. string.rep('d', #state / 8), state) }
  local count, most = #old - 3, 0
  seen = old[1]
  local passed = math.max(0, now - seen) * 1000
  last = old[2] - passed
  if count ~= rates then
    for at = 1, count do most = math.max(most, old[at + 2]) end
  end
  for at = 1, rates do
    local lead = count == rates and old[at + 2] or most
    leads[at] = math.min(lead - passed, last + terms[3 * at - 1])
  end
else
  for at = 1, rates do leads[at] = last end
end
local slot = math.max(0, last)
for at = 1, rates do slot = math.max(slot, leads[at] + terms[3 * at]) end
local booked = slot <= at_most
if booked then
  last = slot
  for at = 1, rates do leads[at] = math.max(leads[at], slot) + terms[3 * at + 1] end
end
-- Where the clock was set back also what was refused is written, or time would stand still until it has caught up.
if booked or now < seen then
  local lives = 0
  for at = 1, rates do lives = math.max(lives, leads[at] + terms[3 * at - 1]) end
  local form = '>dd' .. string.rep('d', rates)
  redis.call('PSETEX', KEYS[1], math.ceil(lives / 1000000), struct.pack(form, now, last, unpack(leads)))
end
return { booked and slot or -slot, now }
