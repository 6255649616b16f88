-- Have *consumer* hold entries, with the counts of attempts that they have from now on: entry id -> count.
-- One whose body is gone must not be among them: XCLAIM would drop it.
local function take(stream, group, consumer, counts)
  local counted = {}
  for entry_id, count in pairs(counts) do
    counted[count] = counted[count] or {}
    table.insert(counted[count], entry_id)
  end
  for count, entry_ids in pairs(counted) do
    table.insert(entry_ids, 'RETRYCOUNT')
    table.insert(entry_ids, count)
    table.insert(entry_ids, 'JUSTID')
    redis.call('XCLAIM', stream, group, consumer, 0, unpack(entry_ids))
  end
end
