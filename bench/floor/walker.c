/*
 * The least that a process list can cost: a walk of a guest's task list in C with everything known beforehand. Every
 * address and offset is an argument, RAM is mapped, nothing is checked and nothing is remembered between walks.
 *
 * walker RAM SIZE PGD LEVELS INIT_TASK TASKS TGID REAL_PARENT COMM STATE CRED UID RUNS
 *   RAM     file whose offsets are guest physical addresses below 2 GiB; addresses and offsets are decimal
 * Prints the number of tasks and the nanoseconds of each run.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define PRESENT 1
#define LARGE 128
#define ADDRESS 0x000ffffffffff000ull

static const uint8_t *ram;

static uint64_t load64(uint64_t gpa) {
  uint64_t value;
  memcpy(&value, ram + gpa, sizeof value);
  return value;
}

static int32_t load32(uint64_t gpa) {
  int32_t value;
  memcpy(&value, ram + gpa, sizeof value);
  return value;
}

static uint64_t translate(uint64_t pgd, int levels, uint64_t va) {
  uint64_t table = pgd;
  for (int shift = 12 + 9 * (levels - 1);; shift -= 9) {
    uint64_t entry = load64(table + ((va >> shift) & 511) * 8);
    if (!(entry & PRESENT)) exit(1);
    if (shift == 12 || (shift <= 30 && (entry & LARGE))) {
      uint64_t mask = (1ull << shift) - 1;
      return (entry & ADDRESS & ~mask) | (va & mask);
    }
    table = entry & ADDRESS;
  }
}

struct row {
  int32_t pid, parent, state, uid;
  char name[16];
};

int main(int argc, char **argv) {
  if (argc != 14) return 2;
  uint64_t number[14];
  for (int i = 2; i < 14; i++) number[i] = strtoull(argv[i], NULL, 10);
  int fd = open(argv[1], O_RDONLY);
  ram = mmap(NULL, number[2], PROT_READ, MAP_SHARED, fd, 0);
  if (ram == MAP_FAILED) return 1;
  uint64_t pgd = number[3], first = number[5], tasks = number[6], tgid = number[7], parent = number[8];
  uint64_t comm = number[9], state = number[10], cred = number[11], uid = number[12];
  int levels = (int)number[4];
  static struct row rows[65536];
  size_t count = 0;
  for (uint64_t run = 0; run < number[13]; run++) {
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    count = 0;
    uint64_t va = first;
    do {
      uint64_t gpa = translate(pgd, levels, va);
      struct row *row = &rows[count++ & 65535];
      row->pid = load32(gpa + tgid);
      row->parent = load32(translate(pgd, levels, load64(gpa + parent)) + tgid);
      memcpy(row->name, ram + gpa + comm, sizeof row->name);
      row->state = load32(gpa + state);
      row->uid = load32(translate(pgd, levels, load64(gpa + cred)) + uid);
      va = load64(gpa + tasks) - tasks;
    } while (va != first);
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%zu %lld\n", count, (end.tv_sec - begin.tv_sec) * 1000000000ll + end.tv_nsec - begin.tv_nsec);
  }
  return 0;
}
