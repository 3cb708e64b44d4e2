-- Who holds what: leases, and from them each agent's load. Rebuildable from the database.
--
--   <p>:leases        ZSET   hold "<task key>#<attempt>", score: when it lapses, ms
--   <p>:holders       HASH   hold -> JSON [org, agent]
--   <p>:load:<org>    HASH   agent -> number of holds; kept with `holders`, so that doing a thing twice counts once
--
-- KEYS[1] is the prefix; ARGV[1] names the verb.

local p, verb = KEYS[1], ARGV[1]

-- take until_ms, then per hold: hold org agent  ->  number newly held
if verb == 'take' then
  local new = 0
  for i = 3, #ARGV, 3 do
    local hold, org, agent = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    if redis.call('HSETNX', p .. ':holders', hold, cjson.encode({ org, agent })) == 1 then
      redis.call('HINCRBY', p .. ':load:' .. org, agent, 1)
      new = new + 1
    end
    redis.call('ZADD', p .. ':leases', ARGV[2], hold)
  end
  return new
end

-- drop hold…  ->  number dropped
if verb == 'drop' then
  local dropped = 0
  for i = 2, #ARGV do
    local hold = ARGV[i]
    redis.call('ZREM', p .. ':leases', hold)
    local holder = redis.call('HGET', p .. ':holders', hold)
    if holder then
      local h = cjson.decode(holder)
      redis.call('HDEL', p .. ':holders', hold)
      if redis.call('HINCRBY', p .. ':load:' .. h[1], h[2], -1) <= 0 then redis.call('HDEL', p .. ':load:' .. h[1], h[2]) end
      dropped = dropped + 1
    end
  end
  return dropped
end

-- extend until_ms org agent hold…: only leases that exist, only the agent's own (agent "": anybody's), only forward
--   ->  number extended
if verb == 'extend' then
  local extended, holder = 0, cjson.encode({ ARGV[3], ARGV[4] })
  for i = 5, #ARGV do
    if ARGV[4] == '' or redis.call('HGET', p .. ':holders', ARGV[i]) == holder then
      extended = extended + redis.call('ZADD', p .. ':leases', 'XX', 'GT', 'CH', ARGV[2], ARGV[i])
    end
  end
  return extended
end

return redis.error_reply('unknown verb ' .. verb)
