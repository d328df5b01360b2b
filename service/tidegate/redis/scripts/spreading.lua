-- For scripts that append; behind dispatching.lua.

-- Dispatch what was appended, if there is a group. Without it nobody has seen this stream; whoever waits for it is rung by
-- the write itself, and a stream that nobody watches gets no group. The entries are in: an error from here on must not
-- look as if they were not.
local function spread(key, group, consumer, max_entries, max_bytes, max_entry_bytes)
  local groups = redis.call('XINFO', 'GROUPS', key)
  for i = 1, #groups do
    for j = 1, #groups[i], 2 do
      if groups[i][j] == 'name' and groups[i][j + 1] == group then
        pcall(dispatch, key, group, consumer, tonumber(max_entries), tonumber(max_bytes), tonumber(max_entry_bytes))
      end
    end
  end
end
