/* A thousand TCP clients and one server in ns-3, as examples/two-tiers.toml has them: 64 kbit/s each,
 * delay, rate and loss on the edges, ten edge routers, one core router. ns-3 has no switch that
 * learns on point-to-point links, so each client has a link of its own to its edge router.
 *
 *   apt-get install libns3-dev
 *   g++ -O2 -std=c++17 ns3_lab.cc -o ns3_lab -lns3-applications -lns3-point-to-point \
 *       -lns3-internet -lns3-network -lns3-core
 *   ./ns3_lab [CLIENTS [SECONDS]]
 *
 * Prints events, seconds of processor time, bytes received and the resident set in KiB. */
#include <sys/resource.h>

#include <cstdlib>
#include <iostream>

#include "ns3/applications-module.h"
#include "ns3/core-module.h"
#include "ns3/internet-module.h"
#include "ns3/network-module.h"
#include "ns3/point-to-point-module.h"

using namespace ns3;

namespace {

constexpr uint32_t kEdges = 10;
constexpr uint16_t kPort = 9;

double ProcessorSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const timeval &user = usage.ru_utime, &system = usage.ru_stime;
  return user.tv_sec + system.tv_sec + (user.tv_usec + system.tv_usec) / 1e6;
}

}  // namespace

int main(int argc, char **argv) {
  const uint32_t clients = argc > 1 ? std::atoi(argv[1]) : 1000;
  const double seconds = argc > 2 ? std::atof(argv[2]) : 10;
  const double began = ProcessorSeconds();

  NodeContainer server, core, edges, hosts;
  server.Create(1);
  core.Create(1);
  edges.Create(kEdges);
  hosts.Create(clients);
  InternetStackHelper stack;
  stack.SetIpv6StackInstall(false);
  stack.InstallAll();

  PointToPointHelper fast, trunk, edge;
  fast.SetDeviceAttribute("DataRate", StringValue("1Gbps"));
  trunk.SetDeviceAttribute("DataRate", StringValue("1Gbps"));
  trunk.SetChannelAttribute("Delay", StringValue("1ms"));
  edge.SetDeviceAttribute("DataRate", StringValue("10Mbps"));
  edge.SetChannelAttribute("Delay", StringValue("5ms"));
  Ipv4AddressHelper middle("10.0.0.0", "255.255.255.252"), places;
  const auto join = [](PointToPointHelper &link, Ipv4AddressHelper &networks, Ptr<Node> a,
                       Ptr<Node> b, bool lossy) {
    NetDeviceContainer ends = link.Install(a, b);
    for (uint32_t i = 0; lossy && i < 2; i++) {
      Ptr<RateErrorModel> loss = CreateObject<RateErrorModel>();
      loss->SetAttribute("ErrorUnit", StringValue("ERROR_UNIT_PACKET"));
      loss->SetAttribute("ErrorRate", DoubleValue(0.001));
      ends.Get(i)->SetAttribute("ReceiveErrorModel", PointerValue(loss));
    }
    Ipv4InterfaceContainer found = networks.Assign(ends);
    networks.NewNetwork();
    return found;
  };
  const Ipv4Address to = join(fast, middle, server.Get(0), core.Get(0), false).GetAddress(0);
  Ipv4StaticRoutingHelper routing;
  const auto route = [&](Ptr<Node> node, Ipv4Address gateway, uint32_t interface) {
    routing.GetStaticRouting(node->GetObject<Ipv4>())->SetDefaultRoute(gateway, interface);
  };
  route(server.Get(0), "10.0.0.2", 1);
  Ptr<Ipv4StaticRouting> at_core = routing.GetStaticRouting(core.Get(0)->GetObject<Ipv4>());
  for (uint32_t i = 0; i < kEdges; i++) {
    Ipv4InterfaceContainer ends = join(trunk, middle, edges.Get(i), core.Get(0), false);
    route(edges.Get(i), ends.GetAddress(1), 1);
    const std::string network = "10." + std::to_string(i + 1) + ".0.0";
    at_core->AddNetworkRouteTo(network.c_str(), "255.255.0.0", ends.GetAddress(0), i + 2);
    places.SetBase(network.c_str(), "255.255.255.252");
    for (uint32_t number = i; number < clients; number += kEdges) {
      Ipv4InterfaceContainer last = join(edge, places, hosts.Get(number), edges.Get(i), true);
      route(hosts.Get(number), last.GetAddress(1), 1);
    }
  }

  PacketSinkHelper sink("ns3::TcpSocketFactory", InetSocketAddress(Ipv4Address::GetAny(), kPort));
  ApplicationContainer sinks = sink.Install(server.Get(0));
  OnOffHelper source("ns3::TcpSocketFactory", InetSocketAddress(to, kPort));
  source.SetConstantRate(DataRate("64kbps"), 1448);
  source.Install(hosts);
  const double built = ProcessorSeconds() - began;

  Simulator::Stop(Seconds(seconds));
  Simulator::Run();
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  std::cout << "clients " << clients << "\nbuild_seconds " << built << "\ncpu_seconds "
            << ProcessorSeconds() - began - built << "\nevents " << Simulator::GetEventCount()
            << "\nbytes " << DynamicCast<PacketSink>(sinks.Get(0))->GetTotalRx() << "\nrss_kib "
            << usage.ru_maxrss << std::endl;
  Simulator::Destroy();
  return 0;
}
