#include "shim.h"

#include <stdio.h>

#include <rte_config.h>

#include <rte_cycles.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>

int
dpdk_shim_errno(void)
{
	return rte_errno;
}

uint32_t
dpdk_shim_lcore_id(void)
{
	return rte_lcore_id();
}

uint64_t
dpdk_shim_rdtsc(void)
{
	return rte_rdtsc();
}

int
dpdk_shim_log_to_stderr(void)
{
	return rte_openlog_stream(stderr);
}

struct rte_mbuf *
dpdk_shim_pktmbuf_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

void
dpdk_shim_pktmbuf_free(struct rte_mbuf *mbuf)
{
	rte_pktmbuf_free(mbuf);
}

int
dpdk_shim_eth_link(uint16_t port_id, bool *up, uint32_t *speed_mbps)
{
	struct rte_eth_link link = {0};
	int result = rte_eth_link_get_nowait(port_id, &link);

	*up = link.link_status == RTE_ETH_LINK_UP;
	*speed_mbps = link.link_speed == RTE_ETH_SPEED_NUM_UNKNOWN ? 0 : link.link_speed;
	return result;
}
