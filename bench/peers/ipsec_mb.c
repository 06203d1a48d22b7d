/*
 * intel-ipsec-mb on packets that somebody else made: one slice of time per line of input.
 *
 *   ipsec_mb FD SIZE        FD: shared memory of SIZE bytes, inherited
 *
 * Input, one command per line; each is answered by one line of JSON:
 *
 *   load SLOT seal|open BASE TABLE PACKETS KEY_BITS KEYS KEY_COUNT
 *       BASE: where a pool starts in the memory. TABLE, KEYS: offsets in the pool, of the packets as
 *       sevpcie_core.crypto.packet lays them out, and of the keys one behind the other.
 *   run SLOT direct|job|burst NANOSECONDS
 *       Take the packets of the slot again and again, once at least, timing each pass.
 *
 * Rules: what a caller could prepare once is prepared once (pointers, nonces, expanded keys), what belongs to a
 * packet is passed per packet. Jobs are submitted without the library's checks, the fast way. Opening compares
 * tags here, because the library only computes them.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <intel-ipsec-mb.h>

#define SLOTS 256
#define MAX_KEYS 64
#define MAX_PASSES (1 << 16)
#define TAG_BYTES 12
#define NONCE_BYTES 12

/* As in sevpcie_core/crypto/packet.py. */
struct packet {
    uint64_t counter;
    uint32_t fixed, key;
    int64_t aad, text, out, tag;
    int32_t aad_bytes, text_bytes;
};
_Static_assert(sizeof(struct packet) == 56, "a packet has 56 bytes");

/* A packet as the library wants it: one cache line. */
struct call {
    const uint8_t *text, *aad;
    uint8_t *out, *tag;
    const struct gcm_key_data *key;
    uint32_t aad_bytes, text_bytes;
    uint8_t nonce[NONCE_BYTES];
} __attribute__((aligned(64)));
_Static_assert(sizeof(struct call) == 64, "a call has one cache line");

struct slot {
    int opening, key_bits;
    uint32_t packets;
    struct call *calls;
    struct gcm_key_data *keys;
};

static uint8_t *memory;
static size_t memory_size;
static IMB_MGR *mgr;
static struct slot slots[SLOTS];
static uint64_t passes[MAX_PASSES];

static void die(const char *what) {
    fprintf(stderr, "ipsec_mb: %s\n", what);
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void *aligned(size_t size) {
    void *p = aligned_alloc(64, (size + 63) / 64 * 64);
    if (p == NULL)
        die("no memory");
    memset(p, 0, (size + 63) / 64 * 64);
    return p;
}

/* --- Loading ------------------------------------------------------------------------------------------- */

static void load(struct slot *s, int opening, uint64_t base, uint64_t table, uint32_t count, int key_bits,
                 uint64_t keys_at, uint32_t key_count) {
    size_t key_bytes = (size_t)key_bits / 8;
    if (key_bits != 128 && key_bits != 256)
        die("key size is not 128 or 256");
    if (key_count == 0 || key_count > MAX_KEYS || count == 0)
        die("bad count");
    if (base > memory_size || base + table + (uint64_t)count * sizeof(struct packet) > memory_size ||
        base + keys_at + key_count * key_bytes > memory_size)
        die("outside the memory");
    const uint8_t *pool = memory + base;
    free(s->calls);
    free(s->keys);
    s->opening = opening;
    s->key_bits = key_bits;
    s->packets = count;
    s->keys = aligned(key_count * sizeof(struct gcm_key_data));
    for (uint32_t k = 0; k < key_count; k++) {
        const uint8_t *key = pool + keys_at + k * key_bytes;
        if (key_bits == 128)
            IMB_AES128_GCM_PRE(mgr, key, &s->keys[k]);
        else
            IMB_AES256_GCM_PRE(mgr, key, &s->keys[k]);
    }
    s->calls = aligned(count * sizeof(struct call));
    const struct packet *packets = (const struct packet *)(pool + table);
    for (uint32_t i = 0; i < count; i++) {
        const struct packet *p = &packets[i];
        struct call *c = &s->calls[i];
        if (p->key >= key_count)
            die("no such key");
        c->text = pool + p->text;
        c->aad = pool + p->aad;
        c->out = (uint8_t *)pool + p->out;
        c->tag = (uint8_t *)pool + p->tag;
        c->key = &s->keys[p->key];
        c->aad_bytes = (uint32_t)p->aad_bytes;
        c->text_bytes = (uint32_t)p->text_bytes;
        uint32_t fixed = __builtin_bswap32(p->fixed);
        uint64_t counter = __builtin_bswap64(p->counter);
        memcpy(c->nonce, &fixed, 4);
        memcpy(c->nonce + 4, &counter, 8);
    }
}

/* --- One pass over the packets; each returns how many of them failed ---------------------------------------- */

static inline uint32_t differs(const uint8_t *tag, const uint8_t *found) {
    uint64_t a, b;
    uint32_t c, d;
    memcpy(&a, tag, 8);
    memcpy(&b, found, 8);
    memcpy(&c, tag + 8, 4);
    memcpy(&d, found + 8, 4);
    return ((a ^ b) | (c ^ d)) != 0;
}

static uint32_t seal_direct(const struct slot *s) {
    struct gcm_context_data context;
    aes_gcm_enc_dec_t enc = s->key_bits == 128 ? mgr->gcm128_enc : mgr->gcm256_enc;
    for (uint32_t i = 0; i < s->packets; i++) {
        const struct call *c = &s->calls[i];
        enc(c->key, &context, c->out, c->text, c->text_bytes, c->nonce, c->aad, c->aad_bytes, c->tag, TAG_BYTES);
    }
    return 0;
}

static uint32_t open_direct(const struct slot *s) {
    struct gcm_context_data context;
    aes_gcm_enc_dec_t dec = s->key_bits == 128 ? mgr->gcm128_dec : mgr->gcm256_dec;
    uint32_t failed = 0;
    for (uint32_t i = 0; i < s->packets; i++) {
        const struct call *c = &s->calls[i];
        uint8_t tag[16];
        dec(c->key, &context, c->out, c->text, c->text_bytes, c->nonce, c->aad, c->aad_bytes, tag, TAG_BYTES);
        failed += differs(c->tag, tag);
    }
    return failed;
}

/* Tags of the jobs in flight, where opening: a ring, because a job completes before its place comes again. */
static uint8_t tags[IMB_MAX_JOBS][16];

static inline void fill(IMB_JOB *job, const struct slot *s, uint32_t i) {
    const struct call *c = &s->calls[i];
    job->enc_keys = c->key;
    job->dec_keys = c->key;
    job->key_len_in_bytes = (uint64_t)s->key_bits / 8;
    job->src = c->text;
    job->dst = c->out;
    job->cipher_start_src_offset_in_bytes = 0;
    job->msg_len_to_cipher_in_bytes = c->text_bytes;
    job->hash_start_src_offset_in_bytes = 0;
    job->msg_len_to_hash_in_bytes = c->text_bytes;
    job->iv = c->nonce;
    job->iv_len_in_bytes = NONCE_BYTES;
    job->auth_tag_output = s->opening ? tags[i % IMB_MAX_JOBS] : c->tag;
    job->auth_tag_output_len_in_bytes = TAG_BYTES;
    job->u.GCM.aad = c->aad;
    job->u.GCM.aad_len_in_bytes = c->aad_bytes;
    job->cipher_mode = IMB_CIPHER_GCM;
    job->cipher_direction = s->opening ? IMB_DIR_DECRYPT : IMB_DIR_ENCRYPT;
    job->hash_alg = IMB_AUTH_AES_GMAC;
    job->chain_order = s->opening ? IMB_ORDER_HASH_CIPHER : IMB_ORDER_CIPHER_HASH;
    job->user_data = (void *)c;
}

static inline uint32_t done(const IMB_JOB *job, const struct slot *s) {
    const struct call *c = job->user_data;
    if (job->status != IMB_STATUS_COMPLETED)
        return 1;
    return s->opening ? differs(c->tag, job->auth_tag_output) : 0;
}

static uint32_t run_job(const struct slot *s) {
    uint32_t failed = 0, completed = 0;
    IMB_JOB *job;
    for (uint32_t i = 0; i < s->packets; i++) {
        job = IMB_GET_NEXT_JOB(mgr);
        fill(job, s, i);
        for (job = IMB_SUBMIT_JOB_NOCHECK(mgr); job != NULL; job = IMB_GET_COMPLETED_JOB(mgr)) {
            failed += done(job, s);
            completed++;
        }
    }
    while ((job = IMB_FLUSH_JOB(mgr)) != NULL) {
        failed += done(job, s);
        completed++;
    }
    return failed + (s->packets - completed);
}

static uint32_t run_burst(const struct slot *s) {
    IMB_JOB *jobs[IMB_MAX_BURST_SIZE];
    uint32_t failed = 0, completed = 0;
    for (uint32_t i = 0; i < s->packets;) {
        uint32_t want = s->packets - i < IMB_MAX_BURST_SIZE ? s->packets - i : IMB_MAX_BURST_SIZE;
        uint32_t got = IMB_GET_NEXT_BURST(mgr, want, jobs);
        if (got == 0)
            die("no jobs to be had");
        for (uint32_t j = 0; j < got; j++)
            fill(jobs[j], s, i + j);
        i += got;
        uint32_t finished = IMB_SUBMIT_BURST_NOCHECK(mgr, got, jobs);
        for (uint32_t j = 0; j < finished; j++)
            failed += done(jobs[j], s);
        completed += finished;
    }
    uint32_t finished;
    while ((finished = IMB_FLUSH_BURST(mgr, IMB_MAX_BURST_SIZE, jobs)) != 0) {
        for (uint32_t j = 0; j < finished; j++)
            failed += done(jobs[j], s);
        completed += finished;
    }
    return failed + (s->packets - completed);
}

/* --- Slices -------------------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void run(const struct slot *s, const char *method, uint64_t slice_ns) {
    uint32_t (*pass)(const struct slot *);
    uint32_t failed = 0, count = 0;
    uint64_t total = 0;
    if (strcmp(method, "direct") == 0)
        pass = s->opening ? open_direct : seal_direct;
    else if (strcmp(method, "job") == 0)
        pass = run_job;
    else if (strcmp(method, "burst") == 0)
        pass = run_burst;
    else
        die("unknown method");
    do {
        uint64_t start = now_ns();
        failed += pass(s);
        uint64_t took = now_ns() - start;
        passes[count++] = took;
        total += took ? took : 1;
    } while (total < slice_ns && count < MAX_PASSES);
    qsort(passes, count, sizeof passes[0], by_value);
    double median = count % 2 ? (double)passes[count / 2]
                              : 0.5 * (double)(passes[count / 2 - 1] + passes[count / 2]);
    printf("{\"best_ns\": %llu, \"median_ns\": %.1f, \"passes\": %u, \"failed\": %u}\n",
           (unsigned long long)passes[0], median, count, failed);
}

static const char *arch_name(uint32_t arch) {
    switch (arch) {
    case IMB_ARCH_NOAESNI: return "without AES-NI";
    case IMB_ARCH_SSE: return "SSE";
    case IMB_ARCH_AVX: return "AVX";
    case IMB_ARCH_AVX2: return "AVX2";
    case IMB_ARCH_AVX512: return "AVX-512";
    default: return "unknown";
    }
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: ipsec_mb FD SIZE\n");
        return 2;
    }
    memory_size = strtoull(argv[2], NULL, 10);
    memory = mmap(NULL, memory_size, PROT_READ | PROT_WRITE, MAP_SHARED, atoi(argv[1]), 0);
    if (memory == MAP_FAILED)
        die("cannot map the memory");
    mgr = alloc_mb_mgr(0);
    if (mgr == NULL)
        die("no manager");
    IMB_ARCH arch = IMB_ARCH_NONE;
    init_mb_mgr_auto(mgr, &arch);
    printf("{\"library\": \"%s\", \"arch\": \"%s\", \"vaes\": %s}\n", imb_get_version_str(), arch_name(arch),
           mgr->features & IMB_FEATURE_VAES ? "true" : "false");
    fflush(stdout);

    char line[256];
    while (fgets(line, sizeof line, stdin) != NULL) {
        unsigned slot, count, key_count;
        int key_bits;
        unsigned long long base, table, keys_at, slice_ns;
        char word[16];
        if (sscanf(line, "load %u %15s %llu %llu %u %d %llu %u", &slot, word, &base, &table, &count, &key_bits,
                   &keys_at, &key_count) == 8 && slot < SLOTS) {
            load(&slots[slot], strcmp(word, "open") == 0, base, table, count, key_bits, keys_at, key_count);
            printf("{\"loaded\": %u}\n", count);
        } else if (sscanf(line, "run %u %15s %llu", &slot, word, &slice_ns) == 3 && slot < SLOTS &&
                   slots[slot].packets > 0) {
            run(&slots[slot], word, slice_ns);
        } else {
            die("bad command");
        }
        fflush(stdout);
    }
    free_mb_mgr(mgr);
    return 0;
}
