-- What wrk sends: wrk … -s load.lua URL -- KIND EVENTS RUN FIRST AUTHORIZATION
--   KIND    which of the requests below
--   EVENTS  "id" for one event; "id*1000" for id-0 … id-999, all alike; "id~1000" by Zipf's law
--   RUN     begins the name of each new user: no two runs share one
--   FIRST   the number of the first prepared order that is cancelled
-- At the end it prints one line of JSON.

local json = {["Content-Type"] = "application/json"}
local signed = {["Content-Type"] = "application/json"}
local next_event, run, number, cancelled, kind

local function chooser(events)
  local id, law, count = events:match("^(.-)([*~])(%d+)$")
  if not id then
    return function() return events end
  end
  count = tonumber(count)
  if law == "*" then
    return function() return id .. "-" .. math.random(0, count - 1) end
  end
  local sums, sum = {}, 0
  for rank = 1, count do
    sum = sum + 1 / rank
    sums[rank] = sum
  end
  return function()
    local dice, low, high = math.random() * sum, 1, count
    while low < high do
      local middle = math.floor((low + high) / 2)
      if sums[middle] < dice then low = middle + 1 else high = middle end
    end
    return id .. "-" .. (low - 1)
  end
end

local requests = {}

function requests.book()
  number = number + 1
  local body = string.format('{"event_id": "%s", "user_id": "%s-%d"}', next_event(), run, number)
  return wrk.format("POST", "/book", json, body)
end

function requests.status()
  return wrk.format("GET", "/status/" .. next_event())
end

-- The prepared orders are numbered from 1: see prepare.py.
function requests.position()
  local event = next_event()
  return wrk.format("GET", string.format("/orders/%s.%022d", event, math.random(1, 100000)))
end

function requests.cancel()
  cancelled = cancelled + 1
  local body = string.format('{"event_id": "%s", "user_id": "user-%d"}', next_event(), cancelled)
  return wrk.format("POST", "/cancel", signed, body)
end

function requests.look_while_others_book()
  return math.random() < 0.9 and requests.status() or requests.book()
end

function requests.mix()
  local dice = math.random()
  if dice < 0.7 then return requests.status() end
  return dice < 0.95 and requests.book() or requests.cancel()
end

function init(arguments)
  kind, run, number, cancelled = arguments[1], arguments[3], 0, tonumber(arguments[4])
  signed["Authorization"] = arguments[5]
  next_event = chooser(arguments[2])
  math.randomseed(cancelled + 1)
  request = requests[kind]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %.3f, "p50_ms": %.3f, "p99_ms": %.3f, "errors": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout
  ))
end
