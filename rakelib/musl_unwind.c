/* Debian's libgcc_eh.a asks glibc for the unwind tables of an address; musl has no such call. This finds them in the
   program headers, as libgcc itself does where it is built for musl. */

#define _GNU_SOURCE
#include <elf.h>
#include <link.h>
#include <pthread.h>

/* libgcc_eh.a calls these by weak references, which take nothing out of a static C library. */
void *const needed_by_libgcc[] = {pthread_once,       pthread_key_create,   pthread_getspecific,
                                  pthread_setspecific, pthread_mutex_lock, pthread_mutex_unlock};

struct search {
  ElfW(Addr) address;
  struct dl_find_object *found;
};

static int look(struct dl_phdr_info *object, size_t size, void *data) {
  struct search *search = data;
  ElfW(Addr) tables = 0;
  (void)size;
  search->found->dlfo_map_start = 0;
  for (int at = 0; at < object->dlpi_phnum; at++) {
    const ElfW(Phdr) *part = &object->dlpi_phdr[at];
    ElfW(Addr) start = object->dlpi_addr + part->p_vaddr;
    if (part->p_type == PT_GNU_EH_FRAME)
      tables = start;
    if (part->p_type == PT_LOAD && search->address - start < part->p_memsz) {
      search->found->dlfo_map_start = (void *)start;
      search->found->dlfo_map_end = (void *)(start + part->p_memsz);
    }
  }
  search->found->dlfo_eh_frame = (void *)tables;
  return search->found->dlfo_map_start && tables;
}

int _dl_find_object(void *address, struct dl_find_object *found) {
  struct search search = {(ElfW(Addr))address, found};
  return dl_iterate_phdr(look, &search) ? 0 : -1;
}
