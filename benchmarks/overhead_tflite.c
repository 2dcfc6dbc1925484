/* The plain loop that the harness is compared with: a clock around tflite::Subgraph::Invoke, nothing else.

   Preloaded into a Python whose tflite-runtime exports its C++ functions: Invoke comes by here on its way, so that
   the loop runs the subgraph that Python has opened, with its memory as it lies. */
#include <stdint.h>
#include <time.h>

typedef int (*Invoke)(void *);
static Invoke real;
static void *subgraph;

int _ZN6tflite8Subgraph6InvokeEv(void *self) {
  subgraph = self;
  return real(self);
}

void overhead_real(Invoke function) { real = function; }

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The times of so many calls on the subgraph that Python ran last; what Invoke says, added up (0 is well). */
int overhead_loop(int64_t *into, int count) {
  int said = 0;
  for (int i = 0; i < count; i++) {
    int64_t begin = now();
    said += real(subgraph);
    into[i] = now() - begin;
  }
  return said;
}
