-- The cached configuration of one org. See config_store.py.
--   KEYS: fence, version, then one per parameter
--   ARGV: "fence", version, seconds               nobody may believe anything older than this version
--         "fill",  version, seconds, value…       a copy of this version, unless it is too old
local known = tonumber(redis.call('GET', KEYS[1]) or 0)
local version = tonumber(ARGV[2])
if ARGV[1] == 'fence' then
  redis.call('SET', KEYS[1], math.max(known, version), 'EX', ARGV[3])
  return 1
end
local cached = tonumber(redis.call('GET', KEYS[2]) or 0)
if version < known or version < cached then
  return 0
end
for index = 2, #KEYS do
  redis.call('SET', KEYS[index], index == 2 and ARGV[2] or ARGV[index + 1], 'EX', ARGV[3])
end
return 1
