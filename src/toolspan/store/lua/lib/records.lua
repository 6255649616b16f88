-- What is on record of many entries: the lists of attempts and the marks, each by entry id; false for no mark.
local function records_of(attempts, entry_ids)
  local names = {}
  for i, entry_id in ipairs(entry_ids) do
    names[2 * i - 1], names[2 * i] = entry_id, entry_id .. ':mark'
  end
  local found = redis.call('HMGET', attempts, unpack(names))
  local lists, marks = {}, {}
  for i, entry_id in ipairs(entry_ids) do
    local record = found[2 * i - 1]
    lists[entry_id], marks[entry_id] = record and history.parse(record) or {}, found[2 * i]
  end
  return lists, marks
end
