-- For all scripts about one stream. One chunk of entries is read at a time, so that a bound in bytes can hold.
local CHUNK = 32
-- Pages begin with fewer, so that large entries do not cost Redis much more than the page may hold.
local FIRST_CHUNK = 4

-- An entry too large to carry becomes {id, size}. Returns the bytes that are left.
local function cut_one(entries, i, max_entry_bytes)
  local entry, size = entries[i], 0
  local fields = entry[2]
  for j = 1, #fields do size = size + #fields[j] end
  if size <= max_entry_bytes then return size end
  entries[i] = {entry[1], size}
  return 32
end

-- The same for all of them.
local function cut(entries, max_entry_bytes)
  local total = 0
  for i = 1, #entries do total = total + cut_one(entries, i, max_entry_bytes) end
  return total
end

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
