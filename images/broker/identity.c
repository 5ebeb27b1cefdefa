/* Who may come in and do what: a plugin of Mosquitto, for what its own settings cannot say.
 *
 * - A certificate's role and name become the user's name, "vehicle:car-1". The client id must begin
 *   with it: whoever connects under an id ends the connection that had it.
 * - What a role may send, subscribe to and receive is in a file of rules, made from the project's
 *   topics. No rule, no right. No name is listed: whoever has a certificate needs no word of it here.
 * - A list of revoked certificates is read again when it changes. What has been revoked, and what
 *   has expired, loses its connection and gets no other.
 *
 * The broker has verified the certificate before anything here is called. All is called by one thread.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <openssl/pem.h>
#include <openssl/x509.h>

#include <mosquitto.h>
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>

#include "plugin.h"

#define NAME_MAX_LENGTH 64
#define ROLE_MAX_LENGTH 16
/* ROLE:NAME and its end. */
#define IDENTITY_SIZE (ROLE_MAX_LENGTH + 1 + NAME_MAX_LENGTH + 1)
#define RULES_MAX 256
#define LINE_SIZE 512
#define LOOK_NS 250000000LL
/* Connections of one identity at a time; a program needs one. */
#define CONNECTIONS_MAX 30

enum verb { SEND, RETAIN, RECEIVE, SUBSCRIBE };

struct rule {
    char role[ROLE_MAX_LENGTH + 1];
    enum verb verb;
    char topic[LINE_SIZE];
};

/* A connection that was let in. */
struct member {
    const struct mosquitto *client;
    char *id;
    ASN1_INTEGER *serial;
    struct tm until;
};

static mosquitto_plugin_id_t *plugin;
static struct rule rules[RULES_MAX];
static size_t rule_count;
static struct member *members;
static size_t member_count, member_room;
static char *crl_path;
static X509 *authority;
static X509_CRL *revoked;
static struct stat crl_seen;
static long long looked_at;
static bool reloading;

/* --- rules ----------------------------------------------------------------------------------- */

static bool read_verb(const char *word, enum verb *verb)
{
    static const char *const words[] = {"send", "retain", "receive", "subscribe"};
    for (int i = 0; i < 4; i++) {
        if (strcmp(word, words[i]) == 0) {
            *verb = (enum verb)i;
            return true;
        }
    }
    return false;
}

static bool read_rules(const char *path)
{
    char line[LINE_SIZE], word[16];
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        mosquitto_log_printf(MOSQ_LOG_ERR, "identity: %s: %s", path, strerror(errno));
        return false;
    }
    bool good = true;
    while (good && fgets(line, sizeof line, file) != NULL) {
        if (line[0] == '#' || line[0] == '\n') {
            continue;
        }
        struct rule *rule = &rules[rule_count];
        good = rule_count < RULES_MAX && strchr(line, '\n') != NULL
            && sscanf(line, "%16s %15s %511s", rule->role, word, rule->topic) == 3
            && read_verb(word, &rule->verb);
        rule_count++;
    }
    good = good && !ferror(file) && rule_count > 0;
    fclose(file);
    if (!good) {
        mosquitto_log_printf(MOSQ_LOG_ERR, "identity: the rules in %s cannot be read", path);
    }
    return good;
}

static bool allowed(const char *user, enum verb verb, const char *topic)
{
    const char *role = "anonymous", *name = "";
    size_t length = strlen(role);
    if (user != NULL) {
        const char *colon = strchr(user, ':');
        if (colon == NULL) {
            return false;
        }
        role = user;
        length = (size_t)(colon - user);
        name = colon + 1;
    }
    for (size_t i = 0; i < rule_count; i++) {
        const struct rule *rule = &rules[i];
        bool fits = rule->verb == verb || (verb == SEND && rule->verb == RETAIN);
        if (fits && strlen(rule->role) == length && strncmp(rule->role, role, length) == 0
            && covers(rule->topic, topic, name)) {
            return true;
        }
    }
    return false;
}

static int on_access(int event, void *data, void *unused)
{
    (void)event;
    (void)unused;
    const struct mosquitto_evt_acl_check *asked = data;
    enum verb verb;
    switch (asked->access) {
    case MOSQ_ACL_WRITE:
        verb = asked->retain ? RETAIN : SEND;
        break;
    case MOSQ_ACL_READ:
        verb = RECEIVE;
        break;
    case MOSQ_ACL_SUBSCRIBE:
        verb = SUBSCRIBE;
        break;
    case MOSQ_ACL_UNSUBSCRIBE:
        return MOSQ_ERR_SUCCESS;
    default:
        return MOSQ_ERR_ACL_DENIED;
    }
    const char *user = mosquitto_client_username(asked->client);
    return allowed(user, verb, asked->topic) ? MOSQ_ERR_SUCCESS : MOSQ_ERR_ACL_DENIED;
}

/* --- members --------------------------------------------------------------------------------- */

static void forget(const struct mosquitto *client)
{
    for (size_t i = 0; i < member_count; i++) {
        if (members[i].client == client) {
            free(members[i].id);
            ASN1_INTEGER_free(members[i].serial);
            members[i] = members[--member_count];
            return;
        }
    }
}

static bool remember(const struct mosquitto *client, const char *id, X509 *certificate)
{
    forget(client);
    if (member_count == member_room) {
        size_t room = member_room == 0 ? 64 : 2 * member_room;
        struct member *more = reallocarray(members, room, sizeof *members);
        if (more == NULL) {
            return false;
        }
        members = more;
        member_room = room;
    }
    struct member *one = &members[member_count];
    one->client = client;
    one->id = strdup(id);
    one->serial = ASN1_INTEGER_dup(X509_get0_serialNumber(certificate));
    if (one->id == NULL || one->serial == NULL
        || ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &one->until) != 1) {
        free(one->id);
        ASN1_INTEGER_free(one->serial);
        return false;
    }
    member_count++;
    return true;
}

static bool is_revoked(const ASN1_INTEGER *serial)
{
    X509_REVOKED *found = NULL;
    return X509_CRL_get0_by_serial(revoked, &found, serial) != 0;
}

/* End the connections of whatever is not valid any more; their last wills are told. */
static void look_through(void)
{
    time_t now = time(NULL);
    for (size_t i = 0; i < member_count;) {
        struct tm until = members[i].until;
        bool taken_back = is_revoked(members[i].serial);
        if (!taken_back && timegm(&until) > now) {
            i++;
            continue;
        }
        char *id = members[i].id;
        mosquitto_log_printf(MOSQ_LOG_NOTICE, "identity: %s loses its connection: its certificate "
            "%s", id, taken_back ? "has been revoked" : "has expired");
        members[i].id = NULL;
        forget(members[i].client);
        mosquitto_kick_client_by_clientid(id, true);
        free(id);
        i = 0; /* whatever ended with it is gone from the list */
    }
}

static int on_disconnect(int event, void *data, void *unused)
{
    (void)event;
    (void)unused;
    forget(((const struct mosquitto_evt_disconnect *)data)->client);
    return MOSQ_ERR_SUCCESS;
}

/* --- the list of what was revoked ------------------------------------------------------------ */

static bool read_revoked(void)
{
    struct stat seen;
    FILE *file = fopen(crl_path, "re");
    if (file == NULL || fstat(fileno(file), &seen) != 0) {
        mosquitto_log_printf(MOSQ_LOG_ERR, "identity: %s: %s", crl_path, strerror(errno));
        if (file != NULL) {
            fclose(file);
        }
        return false;
    }
    X509_CRL *found = PEM_read_X509_CRL(file, NULL, NULL, NULL);
    fclose(file);
    crl_seen = seen;
    if (found == NULL || X509_CRL_verify(found, X509_get0_pubkey(authority)) != 1) {
        X509_CRL_free(found);
        mosquitto_log_printf(MOSQ_LOG_ERR, "identity: %s is no list of our authority", crl_path);
        return false;
    }
    X509_CRL_free(revoked);
    revoked = found;
    return true;
}

static bool crl_has_changed(void)
{
    struct stat now;
    if (stat(crl_path, &now) != 0) {
        return false; /* what was read before holds */
    }
    return now.st_ino != crl_seen.st_ino || now.st_size != crl_seen.st_size
        || now.st_mtim.tv_sec != crl_seen.st_mtim.tv_sec
        || now.st_mtim.tv_nsec != crl_seen.st_mtim.tv_nsec;
}

static int on_tick(int event, void *data, void *unused)
{
    (void)event;
    (void)data;
    (void)unused;
    struct timespec now;
    reloading = false;
    clock_gettime(CLOCK_MONOTONIC, &now);
    long long at = now.tv_sec * 1000000000LL + now.tv_nsec;
    if (at - looked_at < LOOK_NS) {
        return MOSQ_ERR_SUCCESS;
    }
    looked_at = at;
    if (crl_has_changed()) {
        read_revoked();
    }
    look_through();
    return MOSQ_ERR_SUCCESS;
}

static int on_reload(int event, void *data, void *unused)
{
    (void)event;
    (void)data;
    (void)unused;
    reloading = true;
    return MOSQ_ERR_SUCCESS;
}

/* --- who comes in ---------------------------------------------------------------------------- */

/* The one field of this kind in a name, if it is plain: letters, digits and . _ -. */
static bool read_field(const X509_NAME *subject, int nid, char *field, size_t longest)
{
    int at = X509_NAME_get_index_by_NID(subject, nid, -1);
    if (at < 0 || X509_NAME_get_index_by_NID(subject, nid, at) >= 0) {
        return false;
    }
    unsigned char *text = NULL;
    int length = ASN1_STRING_to_UTF8(
        &text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
    bool good = length > 0 && (size_t)length <= longest;
    for (int i = 0; good && i < length; i++) {
        unsigned char c = text[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        good = letter || (i > 0 && (c == '.' || c == '_' || c == '-'));
    }
    if (good) {
        memcpy(field, text, (size_t)length);
        field[length] = '\0';
    }
    OPENSSL_free(text);
    return good;
}

static bool begins_with(const char *id, const char *identity)
{
    size_t length = strlen(identity);
    return strncmp(id, identity, length) == 0 && (id[length] == '\0' || id[length] == '/');
}

/* Other connections than this client id's, which ends when this one begins. */
static size_t others(const char *identity, const char *id)
{
    size_t count = 0;
    for (size_t i = 0; i < member_count; i++) {
        count += begins_with(members[i].id, identity) && strcmp(members[i].id, id) != 0;
    }
    return count;
}

static const char *objection(struct mosquitto *client, X509 *certificate)
{
    char role[ROLE_MAX_LENGTH + 1], name[NAME_MAX_LENGTH + 1], identity[IDENTITY_SIZE];
    const X509_NAME *subject = X509_get_subject_name(certificate);
    const char *id = mosquitto_client_id(client);
    if (!read_field(subject, NID_organizationalUnitName, role, ROLE_MAX_LENGTH)
        || !read_field(subject, NID_commonName, name, NAME_MAX_LENGTH)) {
        return "its certificate names nobody";
    }
    snprintf(identity, sizeof identity, "%s:%s", role, name);
    if (id == NULL || !begins_with(id, identity)) {
        return "its client id does not begin with its certificate's name";
    }
    if (others(identity, id) >= CONNECTIONS_MAX) {
        return "its name has as many connections as one may have";
    }
    if (is_revoked(X509_get0_serialNumber(certificate))) {
        return "its certificate has been revoked";
    }
    if (X509_cmp_current_time(X509_get0_notAfter(certificate)) <= 0) {
        return "its certificate has expired";
    }
    if (mosquitto_set_username(client, identity) != MOSQ_ERR_SUCCESS
        || !remember(client, id, certificate)) {
        return "there is no memory";
    }
    return NULL;
}

static int on_connect(int event, void *data, void *unused)
{
    (void)event;
    (void)unused;
    const struct mosquitto_evt_basic_auth *asked = data;
    X509 *certificate = mosquitto_client_certificate(asked->client);
    if (certificate == NULL) {
        /* At a reload each session is asked for again, and one that is away has no connection. Else
         * it is nobody, who may see that the broker is alive. */
        return reloading || asked->username == NULL ? MOSQ_ERR_SUCCESS : MOSQ_ERR_AUTH;
    }
    if (crl_has_changed()) {
        read_revoked(); /* whoever was revoked a moment ago must not slip in */
    }
    const char *problem = objection(asked->client, certificate);
    X509_free(certificate);
    if (problem == NULL) {
        return MOSQ_ERR_SUCCESS;
    }
    const char *address = mosquitto_client_address(asked->client);
    mosquitto_log_printf(MOSQ_LOG_NOTICE, "identity: refused a connection from %s: %s",
        address == NULL ? "?" : address, problem);
    return MOSQ_ERR_AUTH;
}

/* --- the plugin ------------------------------------------------------------------------------ */

static bool read_authority(const char *path)
{
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        authority = PEM_read_X509(file, NULL, NULL, NULL);
        fclose(file);
    }
    if (authority == NULL) {
        mosquitto_log_printf(MOSQ_LOG_ERR, "identity: %s is no certificate", path);
    }
    return authority != NULL;
}

int mosquitto_plugin_init(
    mosquitto_plugin_id_t *identifier, void **unused, struct mosquitto_opt *options, int count)
{
    (void)unused;
    const char *rules_path = NULL, *authority_path = NULL;
    plugin = identifier;
    for (int i = 0; i < count; i++) {
        if (strcmp(options[i].key, "rules") == 0) {
            rules_path = options[i].value;
        } else if (strcmp(options[i].key, "crl") == 0) {
            free(crl_path);
            crl_path = strdup(options[i].value);
        } else if (strcmp(options[i].key, "authority") == 0) {
            authority_path = options[i].value;
        }
    }
    if (rules_path == NULL || crl_path == NULL || authority_path == NULL) {
        mosquitto_log_printf(MOSQ_LOG_ERR, "identity: needs plugin_opt_rules, _crl and _authority");
        return MOSQ_ERR_INVAL;
    }
    if (!read_rules(rules_path) || !read_authority(authority_path) || !read_revoked()) {
        return MOSQ_ERR_INVAL;
    }
    const struct {
        int event;
        MOSQ_FUNC_generic_callback call;
    } calls[] = {
        {MOSQ_EVT_BASIC_AUTH, on_connect}, {MOSQ_EVT_ACL_CHECK, on_access},
        {MOSQ_EVT_DISCONNECT, on_disconnect}, {MOSQ_EVT_RELOAD, on_reload},
        {MOSQ_EVT_TICK, on_tick},
    };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        int result = mosquitto_callback_register(plugin, calls[i].event, calls[i].call, NULL, NULL);
        if (result != MOSQ_ERR_SUCCESS) {
            return result;
        }
    }
    return MOSQ_ERR_SUCCESS;
}

int mosquitto_plugin_cleanup(void *unused, struct mosquitto_opt *options, int count)
{
    (void)unused;
    (void)options;
    (void)count;
    /* What is registered goes with the plugin. */
    while (member_count > 0) {
        forget(members[0].client);
    }
    free(members);
    free(crl_path);
    X509_CRL_free(revoked);
    X509_free(authority);
    return MOSQ_ERR_SUCCESS;
}
