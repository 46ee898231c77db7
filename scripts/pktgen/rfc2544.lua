-- An RFC 2544 throughput test with Pktgen-DPDK: searches the highest rate at
-- which a director loses no more than it may. docs/rfc2544.md says how to run it.
--
--   pktgen EAL-OPTIONS -- -P -m "[2:3].0,[4:5].1" -f scripts/pktgen/rfc2544.lua
--
-- Settings are taken from the environment:
--   PKTGEN_OPEN     profile that opens the connections, sent once; may be missing
--   PKTGEN_TRIAL    profile of the trials; trial.pkt unless set
--   PKTGEN_TX, PKTGEN_RX    ports to send and to receive by; 0 and 1
--   PKTGEN_FLOWS    flows of the profiles; 1000
--   PKTGEN_LINE_PPS frames per second that the sending port does at rate 100
--   PKTGEN_SECONDS  length of a trial; 60
--   PKTGEN_MAX      where the search begins, percent of the line rate; 100
--   PKTGEN_STEP     where it ends, percent; 0.5
--   PKTGEN_LOSS     lost frames of a million that a trial may have; 0

local function setting(name, default)
  return os.getenv("PKTGEN_" .. name) or default
end

local tx = setting("TX", "0")
local rx = setting("RX", "1")
local seconds = tonumber(setting("SECONDS", "60"))
local step = tonumber(setting("STEP", "0.5"))
local loss_max = tonumber(setting("LOSS", "0"))
-- Slow enough for a table that fills.
local open_percent = 1

local function packets(port, field)
  return pktgen.portStats(port, "port")[tonumber(port)][field]
end

local function send(percent, duration)
  pktgen.set(tx, "rate", percent)
  pktgen.clr()
  pktgen.start(tx)
  pktgen.sleep(duration)
  pktgen.stop(tx)
  -- What is under way comes in, and the counters settle: RFC 2544 section 23.
  pktgen.sleep(2)
  return packets(tx, "opackets"), packets(rx, "ipackets")
end

local function open_connections()
  local profile = os.getenv("PKTGEN_OPEN")
  if not profile then
    return
  end
  local line_pps = assert(tonumber(setting("LINE_PPS", "")), "PKTGEN_OPEN takes PKTGEN_LINE_PPS")
  pktgen.load(profile)
  -- All flows twice, and a second for the start.
  local duration = math.ceil(2 * tonumber(setting("FLOWS", "1000")) / (line_pps * open_percent / 100)) + 1
  send(open_percent, duration)
end

local function is_good(percent)
  local sent, received = send(percent, seconds)
  local lost = sent - received
  local per_million = sent > 0 and lost * 1000000 / sent or math.huge
  local good = sent > 0 and per_million <= loss_max
  print(string.format("%7.2f %%  sent %d  received %d  lost %d (%.3f of a million)  %s",
    percent, sent, received, lost, per_million, good and "good" or "bad"))
  return good, sent / seconds
end

-- The highest good rate, or nil; and the frames per second it had.
local function search()
  local low, high = 0, tonumber(setting("MAX", "100"))
  local best, best_pps
  local percent = high
  while true do
    local good, pps = is_good(percent)
    if good then
      best, best_pps, low = percent, pps, percent
    else
      high = percent
    end
    if high - low <= step then
      return best, best_pps
    end
    percent = (low + high) / 2
  end
end

pktgen.screen("off")
pktgen.stop("all")
open_connections()
pktgen.load(setting("TRIAL", "trial.pkt"))
local best, pps = search()
if best then
  print(string.format("throughput: %.2f %% of the line rate, %.0f frames/s", best, pps))
else
  print("throughput: none; even the lowest rate loses frames")
end
