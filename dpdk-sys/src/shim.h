/*
 * Functions around what cannot be reached from Rust: DPDK's static inline
 * functions, thread-local variables (bound as plain statics they link and then
 * crash) and structures of bit-fields whose shape differs between releases.
 */
#ifndef DPDK_SHIM_H
#define DPDK_SHIM_H

#include <stdbool.h>
#include <stdint.h>

struct rte_mbuf;
struct rte_mempool;

/* rte_errno of the calling thread. */
int dpdk_shim_errno(void);

/* rte_lcore_id(): UINT32_MAX in a thread that is not registered. */
uint32_t dpdk_shim_lcore_id(void);

/* rte_rdtsc() */
uint64_t dpdk_shim_rdtsc(void);

/* rte_openlog_stream(stderr); to be called before rte_eal_init(). */
int dpdk_shim_log_to_stderr(void);

/* rte_pktmbuf_alloc(): NULL when the pool is empty. */
struct rte_mbuf *dpdk_shim_pktmbuf_alloc(struct rte_mempool *pool);

/* rte_pktmbuf_free() */
void dpdk_shim_pktmbuf_free(struct rte_mbuf *mbuf);

/* rte_eth_link_get_nowait(), without its bit-fields. */
int dpdk_shim_eth_link(uint16_t port_id, bool *up, uint32_t *speed_mbps);

#endif
