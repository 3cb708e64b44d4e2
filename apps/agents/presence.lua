-- One heartbeat into an org's presence hash (see presence.py for its shape).
--
-- KEYS[1] the hash; ARGV: agent now_ms slots instance leaving(0|1) intake away_after_ms forget_after_s
--   ->  { what was there before or "", what is there now }

local agent, now, away = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[7])
local before = redis.call('HGET', KEYS[1], agent) or ''
local instances = {}
if before ~= '' then
  local known = cjson.decode(before)
  for name, one in pairs(known[4] or {}) do
    if now - one[1] <= away then instances[name] = one end
  end
end

if ARGV[5] == '1' then instances[ARGV[4]] = nil else instances[ARGV[4]] = { now, tonumber(ARGV[3]), ARGV[6] } end

-- Instances that take work count; when none does, all do, and the agent stands as the least unwilling of them.
local rank = { open = 3, paused = 2, draining = 1 }
local slots, all, intake, seen = 0, 0, 'draining', 0
for _, one in pairs(instances) do
  if one[3] == 'open' then slots = slots + one[2] end
  if rank[one[3]] > rank[intake] then intake = one[3] end
  all = all + one[2]
  if one[1] > seen then seen = one[1] end
end
if intake ~= 'open' then slots = all end
if seen == 0 then
  -- The last one left: away from this moment on.
  seen, slots, intake = now - away - 1, tonumber(ARGV[3]), 'open'
end

local after = cjson.encode({ seen, slots, ARGV[4], next(instances) and instances or false, intake })
redis.call('HSET', KEYS[1], agent, after)
redis.call('EXPIRE', KEYS[1], ARGV[8])
return { before, after }
