-- What the group has yet to hand out.
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
