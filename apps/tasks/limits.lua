-- How fast an org, and each of its keys, may submit; how many open tasks it may have. One call per request.
--
--   <p>:rate:<org>           STRING   when the bucket is full again, ms (GCRA's theoretical arrival time); expires then
--   <p>:rate:<org>:<key id>  STRING   the same for one API key
--   <p>:open:<org>           STRING   open tasks: as counted in the database, plus what was let in since; expires after 2 s
--
-- KEYS: open, then a bucket each.  ARGV: now_ms, wanted, open_max (-1: no cap), counted (-1: not counted), then per bucket:
-- ms per token, burst.
-- Gives {granted, room, then per bucket: left, ms until it is full, ms until the next token}; {-1}: count the open tasks and ask again.

local now, granted, cap, counted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local room = -1

if cap >= 0 then
  if counted >= 0 then redis.call('SET', KEYS[1], counted, 'PX', 2000, 'NX') end
  local open = redis.call('GET', KEYS[1])
  if not open then
    if counted < 0 then return { -1 } end
    open = counted
  end
  room = math.max(0, cap - tonumber(open))
  granted = math.min(granted, room)
end

local tats = {}
for i = 2, #KEYS do
  local interval, burst = tonumber(ARGV[2 * i + 1]), tonumber(ARGV[2 * i + 2])
  local tat = math.max(now, tonumber(redis.call('GET', KEYS[i]) or 0))
  tats[i] = tat
  granted = math.min(granted, math.max(0, math.floor((now + burst * interval - tat) / interval + 0.000001)))
end

if cap >= 0 and granted > 0 and redis.call('EXISTS', KEYS[1]) == 1 then redis.call('INCRBY', KEYS[1], granted) end

local found = { granted, room }
for i = 2, #KEYS do
  local interval, burst = tonumber(ARGV[2 * i + 1]), tonumber(ARGV[2 * i + 2])
  local tat = tats[i] + granted * interval
  if granted > 0 then redis.call('SET', KEYS[i], string.format('%.3f', tat), 'PX', math.max(1, math.ceil(tat - now))) end
  local left = math.floor((now + burst * interval - tat) / interval + 0.000001)
  found[#found + 1] = math.max(0, left)
  found[#found + 1] = math.ceil(tat - now)
  found[#found + 1] = left > 0 and 0 or math.ceil(tat + interval - burst * interval - now)
end
return found
