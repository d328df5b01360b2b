-- For all scripts about one stream. One chunk of entries is read at a time, so that a bound in bytes can hold.
local CHUNK = 32
-- Pages begin with fewer, so that large entries do not cost Redis much more than the page may hold.
local FIRST_CHUNK = 4

-- {first id, last-generated id, length, entries-added, greatest id that was deleted by XDEL}, or false when there is
-- no stream.
local function inspect(key)
  if redis.call('EXISTS', key) == 0 then return false end
  local reply = redis.call('XINFO', 'STREAM', key)
  local by = {}
  for i = 1, #reply, 2 do by[reply[i]] = reply[i + 1] end
  return {by['recorded-first-entry-id'], by['last-generated-id'], by['length'], by['entries-added'],
    by['max-deleted-entry-id']}
end
