-- For scripts that append; behind dispatching.lua.

-- Dispatch without reading: the group had read all that was there before these entries.
local function dispatch_appended(key, by, consumer, entries, size)
  relay_after(key, consumer, by['last-delivered-id'], 0, entries, size, false)
  redis.call('XGROUP', 'SETID', key, by['name'], entries[#entries][1], 'ENTRIESREAD', by['entries-read'] + #entries)
end

-- Dispatch `entries`, which were appended and have one field each, if there is a group. Without it nobody has seen this
-- stream; whoever waits for it is rung by the write itself, and a stream that nobody watches gets no group. The entries
-- are in: an error from here on must not look as if they were not.
local function spread(key, group, consumer, max_entries, max_bytes, max_entry_bytes, entries)
  local by, size = group_of(key, group), 0
  if not by then return end
  for i = 1, #entries do size = size + #entries[i][2][1] + #entries[i][2][2] end
  -- They are all that the group has not read (the server cannot always tell), there is one before, and none is to be cut.
  if by['lag'] == #entries and by['entries-read'] and by['last-delivered-id'] ~= '0-0'
    and size <= math.min(RELAY_BYTES, tonumber(max_entry_bytes)) then
    pcall(dispatch_appended, key, by, consumer, entries, size)
  else
    pcall(dispatch, key, group, consumer, tonumber(max_entries), tonumber(max_bytes), tonumber(max_entry_bytes))
  end
end
