-- What a consumer holds, and what the group has yet to hand out.
local last_delivered

-- Whether a re-created group has yet to deliver an entry that we do not hold. One that the group has passed is held by
-- somebody else, or was acknowledged: it does not come again.
local function undelivered(stream, group, entry_id)
  if #redis.call('XRANGE', stream, entry_id, entry_id) == 0 then
    return false
  end
  last_delivered = last_delivered or group_of(stream, group).last_delivered
  return ids.after(entry_id, last_delivered)
end

-- All that *consumer* holds between two entry ids: entry id -> { id, consumer, idle_ms, deliveries }.
-- *page* is how many we believe it holds; entries whose hand-over we never heard of may lie between.
local function pending_between(stream, group, consumer, first, last, page)
  local held = {}
  while true do
    local found = redis.call('XPENDING', stream, group, first, last, page, consumer)
    for _, entry in ipairs(found) do
      held[entry[1]] = entry
    end
    if #found < page then
      return held
    end
    first = '(' .. found[#found][1]
  end
end
