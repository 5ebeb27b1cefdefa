/* What both plugins have: how a topic of theirs is compared, and which interface they speak. */
#ifndef OODIDA_PLUGIN_H
#define OODIDA_PLUGIN_H

#include <stdbool.h>
#include <string.h>

#include <mosquitto_plugin.h>

/* Level by level: "+" is any one level, "{name}" the name. "#" stands for levels that no rule has. */
static bool covers(const char *rule, const char *topic, const char *name)
{
    for (;;) {
        size_t have = strcspn(rule, "/"), want = strcspn(topic, "/");
        if (want == 1 && topic[0] == '#') {
            return false;
        }
        if (have == 6 && strncmp(rule, "{name}", 6) == 0) {
            if (want != strlen(name) || strncmp(topic, name, want) != 0) {
                return false;
            }
        } else if (!(have == 1 && rule[0] == '+')
                   && (have != want || strncmp(rule, topic, have) != 0)) {
            return false;
        }
        rule += have;
        topic += want;
        if (*rule == '\0' || *topic == '\0') {
            return *rule == *topic;
        }
        rule++;
        topic++;
    }
}

int mosquitto_plugin_version(int count, const int *versions)
{
    for (int i = 0; i < count; i++) {
        if (versions[i] == 5) {
            return 5;
        }
    }
    return -1;
}

#endif
