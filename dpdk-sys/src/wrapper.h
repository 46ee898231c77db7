/*
 * What bindgen reads: DPDK's headers, then values that it cannot take from
 * them. Each CONST_X becomes the Rust constant X (see build.rs).
 */
#include <stddef.h>
#include <stdint.h>

#include <rte_config.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_ring.h>
#include <rte_version.h>

#include "shim.h"

/*
 * 64-bit flags. As macros they would come out as u32, or not at all.
 */
static const uint64_t CONST_RTE_MBUF_F_RX_IP_CKSUM_MASK = RTE_MBUF_F_RX_IP_CKSUM_MASK;
static const uint64_t CONST_RTE_MBUF_F_RX_IP_CKSUM_BAD = RTE_MBUF_F_RX_IP_CKSUM_BAD;
static const uint64_t CONST_RTE_MBUF_F_RX_IP_CKSUM_GOOD = RTE_MBUF_F_RX_IP_CKSUM_GOOD;
static const uint64_t CONST_RTE_MBUF_F_RX_OUTER_IP_CKSUM_BAD = RTE_MBUF_F_RX_OUTER_IP_CKSUM_BAD;
static const uint64_t CONST_RTE_MBUF_F_TX_IP_CKSUM = RTE_MBUF_F_TX_IP_CKSUM;
static const uint64_t CONST_RTE_MBUF_F_TX_IPV4 = RTE_MBUF_F_TX_IPV4;

static const uint64_t CONST_RTE_ETH_RX_OFFLOAD_IPV4_CKSUM = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
static const uint64_t CONST_RTE_ETH_RX_OFFLOAD_RSS_HASH = RTE_ETH_RX_OFFLOAD_RSS_HASH;
static const uint64_t CONST_RTE_ETH_TX_OFFLOAD_IPV4_CKSUM = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
static const uint64_t CONST_RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE = RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;

static const uint64_t CONST_RTE_ETH_RSS_IPV4 = RTE_ETH_RSS_IPV4;
static const uint64_t CONST_RTE_ETH_RSS_FRAG_IPV4 = RTE_ETH_RSS_FRAG_IPV4;
static const uint64_t CONST_RTE_ETH_RSS_NONFRAG_IPV4_TCP = RTE_ETH_RSS_NONFRAG_IPV4_TCP;
static const uint64_t CONST_RTE_ETH_RSS_NONFRAG_IPV4_UDP = RTE_ETH_RSS_NONFRAG_IPV4_UDP;
static const uint64_t CONST_RTE_ETH_RSS_NONFRAG_IPV4_OTHER = RTE_ETH_RSS_NONFRAG_IPV4_OTHER;
static const uint64_t CONST_RTE_ETH_RSS_IPV6 = RTE_ETH_RSS_IPV6;
static const uint64_t CONST_RTE_ETH_RSS_FRAG_IPV6 = RTE_ETH_RSS_FRAG_IPV6;
static const uint64_t CONST_RTE_ETH_RSS_NONFRAG_IPV6_TCP = RTE_ETH_RSS_NONFRAG_IPV6_TCP;
static const uint64_t CONST_RTE_ETH_RSS_NONFRAG_IPV6_UDP = RTE_ETH_RSS_NONFRAG_IPV6_UDP;
static const uint64_t CONST_RTE_ETH_RSS_NONFRAG_IPV6_OTHER = RTE_ETH_RSS_NONFRAG_IPV6_OTHER;

static const uint32_t CONST_RTE_PTYPE_ALL_MASK = RTE_PTYPE_ALL_MASK;
static const uint32_t CONST_RTE_PTYPE_UNKNOWN = RTE_PTYPE_UNKNOWN;

static const uint64_t CONST_RTE_ETH_DEV_NO_OWNER = RTE_ETH_DEV_NO_OWNER;

/*
 * Where the fields of an mbuf are, in bytes. The header nests them in
 * anonymous unions that differ between releases of DPDK; offsetof sees through
 * those, names that bindgen makes up do not.
 */
static const size_t CONST_RTE_MBUF_OFFSET_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr);
static const size_t CONST_RTE_MBUF_OFFSET_DATA_OFF = offsetof(struct rte_mbuf, data_off);
static const size_t CONST_RTE_MBUF_OFFSET_NB_SEGS = offsetof(struct rte_mbuf, nb_segs);
static const size_t CONST_RTE_MBUF_OFFSET_OL_FLAGS = offsetof(struct rte_mbuf, ol_flags);
static const size_t CONST_RTE_MBUF_OFFSET_PKT_LEN = offsetof(struct rte_mbuf, pkt_len);
static const size_t CONST_RTE_MBUF_OFFSET_DATA_LEN = offsetof(struct rte_mbuf, data_len);
static const size_t CONST_RTE_MBUF_OFFSET_BUF_LEN = offsetof(struct rte_mbuf, buf_len);
static const size_t CONST_RTE_MBUF_OFFSET_TX_OFFLOAD = offsetof(struct rte_mbuf, tx_offload);

/* The same fields' sizes: a change of type must not go unnoticed. */
_Static_assert(sizeof(((struct rte_mbuf *)0)->buf_addr) == sizeof(void *), "buf_addr");
_Static_assert(sizeof(((struct rte_mbuf *)0)->data_off) == 2, "data_off");
_Static_assert(sizeof(((struct rte_mbuf *)0)->nb_segs) == 2, "nb_segs");
_Static_assert(sizeof(((struct rte_mbuf *)0)->ol_flags) == 8, "ol_flags");
_Static_assert(sizeof(((struct rte_mbuf *)0)->pkt_len) == 4, "pkt_len");
_Static_assert(sizeof(((struct rte_mbuf *)0)->data_len) == 2, "data_len");
_Static_assert(sizeof(((struct rte_mbuf *)0)->buf_len) == 2, "buf_len");
_Static_assert(sizeof(((struct rte_mbuf *)0)->tx_offload) == 8, "tx_offload");
