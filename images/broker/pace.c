/* How fast one sender may speak: a plugin of Mosquitto, which has no rate for a client.
 *
 * What is too much for one topic of those in a file of paces goes no further: it is in nobody's
 * queue, where others' messages would wait behind it. A topic stands for its sender, as the rules
 * of identity.c let each name send on topics of its own only, over however many connections.
 *
 * Mosquitto 2.0 lets a plugin refuse a message as forbidden, which it is not, or end the
 * connection. So it is given a topic that nobody hears, and its sender the answer "no matching
 * subscribers" (MQTT 5, section 3.4.2.1): to send again what has had no reply, as ever.
 *
 * All is called by one thread.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include <mosquitto.h>
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>

#include "plugin.h"

#define PACES_MAX 64
#define LINE_SIZE 512
/* Senders that are remembered, in sets of a few: the one that was quiet for longest makes room. */
#define SETS 8192
#define WAYS 8
/* A burst is over when nothing of a sender was refused for so long, in seconds. */
#define OVER_S 60.0
/* No topic of ours begins like this, and no rule lets anybody hear one that does. */
#define NOWHERE '!'

struct pace {
    char topic[LINE_SIZE];
    double messages_per_s, messages, bytes_per_s, bytes;
};

/* What is left to the sender on one topic: of messages and of bytes, at a time. */
struct sender {
    uint64_t tag;
    double at, messages, bytes, refused_at;
};

static struct pace paces[PACES_MAX];
static size_t pace_count;
static struct sender (*senders)[WAYS];
static uint64_t seed;

static bool read_paces(const char *path)
{
    char line[LINE_SIZE];
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        mosquitto_log_printf(MOSQ_LOG_ERR, "pace: %s: %s", path, strerror(errno));
        return false;
    }
    bool good = true;
    while (good && fgets(line, sizeof line, file) != NULL) {
        if (line[0] == '#' || line[0] == '\n') {
            continue;
        }
        struct pace *pace = &paces[pace_count];
        good = pace_count < PACES_MAX && strchr(line, '\n') != NULL
            && sscanf(line, "%511s %lf %lf %lf %lf", pace->topic, &pace->messages_per_s,
                   &pace->messages, &pace->bytes_per_s, &pace->bytes) == 5
            && pace->messages_per_s > 0 && pace->messages >= 1
            && pace->bytes_per_s > 0 && pace->bytes >= 1;
        pace_count++;
    }
    good = good && !ferror(file) && pace_count > 0;
    fclose(file);
    if (!good) {
        mosquitto_log_printf(MOSQ_LOG_ERR, "pace: the paces in %s cannot be read", path);
    }
    return good;
}

static const struct pace *pace_of(const char *topic)
{
    for (size_t i = 0; i < pace_count; i++) {
        if (covers(paces[i].topic, topic, "")) {
            return &paces[i];
        }
    }
    return NULL;
}

/* FNV-1a from a seed that nobody knows, and mixed, so that nobody chooses whose place he takes. */
static uint64_t tag_of(const char *topic)
{
    uint64_t tag = seed;
    for (const char *c = topic; *c != '\0'; c++) {
        tag = (tag ^ (unsigned char)*c) * 0x100000001b3ULL;
    }
    tag = (tag ^ (tag >> 33)) * 0xff51afd7ed558ccdULL;
    return tag ^ (tag >> 33);
}

static struct sender *sender_of(const char *topic, const struct pace *pace, double now)
{
    uint64_t tag = tag_of(topic);
    struct sender *set = senders[tag % SETS], *oldest = &set[0];
    for (int i = 0; i < WAYS; i++) {
        if (set[i].tag == tag && set[i].at > 0) {
            return &set[i];
        }
        if (set[i].at < oldest->at) {
            oldest = &set[i];
        }
    }
    *oldest = (struct sender){tag, now, pace->messages, pace->bytes, -OVER_S};
    return oldest;
}

static double refilled(double left, double passed, double per_s, double most)
{
    double now = left + passed * per_s;
    return now < most ? now : most;
}

static int on_message(int event, void *data, void *unused)
{
    (void)event;
    (void)unused;
    struct mosquitto_evt_message *sent = data;
    const struct pace *pace = pace_of(sent->topic);
    struct timespec clock;
    if (pace == NULL) {
        return MOSQ_ERR_SUCCESS;
    }
    clock_gettime(CLOCK_MONOTONIC, &clock);
    double now = (double)clock.tv_sec + (double)clock.tv_nsec / 1e9, size = sent->payloadlen;
    struct sender *sender = sender_of(sent->topic, pace, now);
    double passed = now - sender->at;
    sender->at = now;
    sender->messages = refilled(sender->messages, passed, pace->messages_per_s, pace->messages);
    sender->bytes = refilled(sender->bytes, passed, pace->bytes_per_s, pace->bytes);
    if (sender->messages >= 1 && sender->bytes >= size) {
        sender->messages -= 1;
        sender->bytes -= size;
        return MOSQ_ERR_SUCCESS;
    }
    if (now - sender->refused_at >= OVER_S) {
        mosquitto_log_printf(MOSQ_LOG_NOTICE, "pace: too much is sent to %s", sent->topic);
    }
    sender->refused_at = now;
    /* In its place: of a topic that is another piece of memory, the broker would leak the first. */
    sent->topic[0] = NOWHERE;
    sent->retain = false;
    return MOSQ_ERR_SUCCESS;
}

int mosquitto_plugin_init(
    mosquitto_plugin_id_t *identifier, void **unused, struct mosquitto_opt *options, int count)
{
    (void)unused;
    const char *path = NULL;
    for (int i = 0; i < count; i++) {
        if (strcmp(options[i].key, "paces") == 0) {
            path = options[i].value;
        }
    }
    if (path == NULL) {
        mosquitto_log_printf(MOSQ_LOG_ERR, "pace: needs plugin_opt_paces");
        return MOSQ_ERR_INVAL;
    }
    senders = calloc(SETS, sizeof *senders);
    if (senders == NULL || getrandom(&seed, sizeof seed, 0) != sizeof seed || !read_paces(path)) {
        return MOSQ_ERR_INVAL;
    }
    return mosquitto_callback_register(identifier, MOSQ_EVT_MESSAGE, on_message, NULL, NULL);
}

int mosquitto_plugin_cleanup(void *unused, struct mosquitto_opt *options, int count)
{
    (void)unused;
    (void)options;
    (void)count;
    free(senders);
    return MOSQ_ERR_SUCCESS;
}
