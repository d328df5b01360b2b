-- For all scripts about one stream. One chunk of entries is read at a time, so that a bound in bytes can hold.
local CHUNK = 32

-- Entries too large to carry become {id, size}. Returns the bytes that are left.
local function cut(entries, max_entry_bytes)
  local total = 0
  for i = 1, #entries do
    local entry, size = entries[i], 0
    local fields = entry[2]
    for j = 1, #fields do size = size + #fields[j] end
    if size > max_entry_bytes then
      entries[i] = {entry[1], size}
      size = 32
    end
    total = total + size
  end
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
