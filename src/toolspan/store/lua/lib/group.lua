-- What the stream tells of its consumer group; nil where it has none of that name.
local function group_of(stream, group)
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    if info[2] == group then
      return { consumers = info[4], pending = info[6], last_delivered = info[8] }
    end
  end
end
