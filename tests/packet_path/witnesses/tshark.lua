-- Generic UDP Encapsulation, version 0, without extension fields: tshark has no
-- dissector of its own for it. The UDP port is the script's argument.
local port = tonumber((...))
local gue = Proto("gue", "Generic UDP Encapsulation")
local unknown = ProtoExpert.new("gue.unknown", "not a plain GUE header",
    expert.group.MALFORMED, expert.severity.ERROR)
gue.experts = { unknown }
local inner = { [4] = "ip", [41] = "ipv6" }

function gue.dissector(buffer, packet, tree)
    local header = tree:add(gue, buffer(0, 4))
    local name = inner[buffer(1, 1):uint()]
    if buffer(0, 1):uint() ~= 0 or buffer(2, 2):uint() ~= 0 or name == nil then
        header:add_proto_expert_info(unknown)
        return
    end
    Dissector.get(name):call(buffer(4):tvb(), packet, tree)
end

DissectorTable.get("udp.port"):add(port, gue)

-- What clients say to the services is nobody's business: without this, tshark
-- guesses at it.
local client = Proto("client", "Data of a client")
function client.dissector(buffer, packet, tree)
    tree:add(client, buffer())
end
DissectorTable.get("tcp.port"):set(80, client)
DissectorTable.get("udp.port"):set(53, client)
