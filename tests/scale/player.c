/* Copyright (c) 2026 Muster contributors
 * GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Stands in for a device tool: prints after SECONDS what was recorded for the same arguments.
 *
 * Built once a tool: TOOL is its name, PLACE where it lies, WORDS how many arguments name a
 * recording, LOCK whether a second caller is refused. What was not recorded is asked of the
 * emulator, which lies beside it. Notes in LOG from when to when it ran.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

static char name[4096] = "/var/lib/scale/" TOOL;
static char answer[1 << 16];

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    const struct timespec pause = {(long)SECONDS, (SECONDS - (long)SECONDS) * 1e9};
    double begun = now();
    for (int i = 1; i < argc && i <= WORDS; i++) {
        strncat(name, " ", sizeof name - strlen(name) - 1);
        strncat(name, argv[i], sizeof name - strlen(name) - 1);
    }
    int recording = open(name, O_RDONLY);
    if (recording < 0) {
        execv(PLACE ".emulated", argv);
        return 127;
    }
    if (LOCK) {
        int lock = open("/run/scale.lock", O_WRONLY | O_CREAT, 0600);
        if (flock(lock, LOCK_EX | LOCK_NB)) {
            puts("hccn_tool is busy, please try again.");
            return 1;
        }
    }
    nanosleep(&pause, NULL);
    ssize_t length = read(recording, answer, sizeof answer);
    if (length < 0 || write(STDOUT_FILENO, answer, length) != length)
        return 1;
    dprintf(open(LOG, O_WRONLY | O_CREAT | O_APPEND, 0600), "%.4f %.4f\n", begun, now());
    return 0;
}
