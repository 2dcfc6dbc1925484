/* The plain loop that the harness is compared with: ONNX Runtime from C, a clock around Run, nothing else.

   overhead_ort LIBRARY MODEL SAMPLES INPUT DIMS OUTPUT...
   Reads requests "N\n" from standard input and answers with N nanosecond samples as int64, so that it and the
   harness can take turns. One float32 input of ones. The output is made by each Run, as Python's run does it.

   No header of ONNX Runtime is packaged here: functions are taken from its table by their places, which never
   change from release to release (the C API only appends). */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef void *(*Fn)();
enum {
  CREATE_ENV = 3, CREATE_SESSION = 7, RUN = 9, CREATE_OPTIONS = 10, GRAPH_LEVEL = 23, INTRA = 24, INTER = 25,
  TENSOR_WITH_DATA = 49, CPU_MEMORY = 69, RELEASE_VALUE = 96, MESSAGE = 2
};
static Fn *api;

static void ok(void *status) {
  if (status) {
    fprintf(stderr, "%s\n", ((const char *(*)(void *))api[MESSAGE])(status));
    exit(1);
  }
}

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int main(int argc, char **argv) {
  if (argc < 6) return 2;
  void *library = dlopen(argv[1], RTLD_NOW);
  if (!library) { fprintf(stderr, "%s\n", dlerror()); return 1; }
  struct base { Fn *(*get)(uint32_t); const char *(*version)(void); };
  const struct base *base = ((const struct base *(*)(void))dlsym(library, "OrtGetApiBase"))();
  api = base->get(16);
  if (!api) { fprintf(stderr, "no API 16 in %s\n", base->version()); return 1; }
  void *environment, *options, *session, *memory, *input;
  ok(api[CREATE_ENV](4, "loop", &environment));
  ok(api[CREATE_OPTIONS](&options));
  ok(api[INTRA](options, 1));
  ok(api[INTER](options, 1));
  ok(api[CREATE_SESSION](environment, argv[2], options, &session));
  int64_t dims[32], count = 1;
  size_t rank = 0;
  for (char *part = strtok(argv[4], ","); part && rank < 32; part = strtok(NULL, ",")) {
    dims[rank] = atoll(part);
    count *= dims[rank++];
  }
  float *data = malloc(count * sizeof *data);
  for (int64_t i = 0; i < count; i++) data[i] = 1.0f;
  ok(api[CPU_MEMORY](1, 0, &memory));
  ok(api[TENSOR_WITH_DATA](memory, data, (size_t)count * sizeof *data, dims, rank, 1, &input));
  const char *input_names[] = {argv[3]}, **output_names = (const char **)argv + 5;
  size_t outputs = argc - 5;
  int wanted;
  while (scanf("%d", &wanted) == 1 && wanted > 0) {
    int64_t *samples = malloc(wanted * sizeof *samples);
    for (int i = 0; i < wanted; i++) {
      void *made[64] = {0};
      int64_t begin = now();
      void *status = ((void *(*)(void *, void *, const char **, void **, size_t, const char **, size_t, void **))
                          api[RUN])(session, NULL, input_names, &input, 1, output_names, outputs, made);
      samples[i] = now() - begin;
      ok(status);
      for (size_t j = 0; j < outputs; j++) ((void (*)(void *))api[RELEASE_VALUE])(made[j]);
    }
    fwrite(samples, sizeof *samples, wanted, stdout);
    fflush(stdout);
    free(samples);
  }
  return 0;
}
