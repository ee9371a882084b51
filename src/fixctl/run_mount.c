/* SPDX-License-Identifier: MIT */
/*
 * Trees by overlayfs: the tree of the image below, what the run writes above, on a tmpfs that belongs to the namespace and ends
 * with its last process. A memfd cannot be mounted, so programs that the shim is not loaded in find a link to the descriptor
 * that they inherit where a file is to be shown.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/userns.h"
#include "fixctl/run.h"

static int refuse(char **why, int err, const char *what)
{
	if (!*why)
		*why = xasprintf("%s: %s", what, strerror(-err));
	return err;
}

/* Root keeps all users; anybody else needs a user namespace to be allowed to mount. *mapped: in which there is only one user. */
static int new_namespace(bool *mapped, char **why)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();
	int r;

	*mapped = false;
	if (uid != 0 || unshare(CLONE_NEWNS) < 0) {
		*mapped = true;
		if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
			return refuse(why, -errno,
				      "no user namespace (kernel.unprivileged_userns_clone, user.max_user_namespaces, or a "
				      "container's filter)");
		r = userns_map(uid, gid);
		if (r < 0)
			return refuse(why, r, "the user cannot be mapped into a user namespace");
	}
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return refuse(why, -errno, errno == EINVAL ? "a chroot's mounts cannot be made private" : "mounts cannot be made private");
	return 0;
}

/* The option string has its own separators. */
static char *escaped(const char *path)
{
	struct text t = { 0 };

	for (; *path; path++)
		text_printf(&t, "%s%c", strchr("\\:,", *path) ? "\\" : "", *path);
	return text_steal(&t);
}

/* The root of the tree shows what its upper directory has. */
static int look_like(const char *path, const char *model)
{
	struct stat st;

	if (stat(model, &st) < 0 || chmod(path, st.st_mode & 07777) < 0 ||
	    utimensat(AT_FDCWD, path, (struct timespec[2]){ st.st_atim, st.st_mtim }, 0) < 0)
		return -errno;
	return 0;
}

static int mount_tree(const struct shown *x, const char *home, size_t i, bool mapped)
{
	_cleanup_free_ char *upper = xasprintf("%s/upper-%zu", home, i), *work = xasprintf("%s/work-%zu", home, i),
			    *lower = escaped(x->tree), *options = NULL, *u = escaped(upper), *w = escaped(work);
	int r;

	if (mkdir(upper, 0755) < 0 || mkdir(work, 0755) < 0)
		return -errno;
	r = look_like(upper, x->tree);
	/* Inode numbers are those that directories are listed with, and all names of a file stay names of one file. */
	options =
		xasprintf("lowerdir=%s,upperdir=%s,workdir=%s,xino=on,index=on%s", lower, u, w, mapped ? ",userxattr" : ",redirect_dir=on");
	return r < 0 ? r : mount("fixd", x->path, "overlay", 0, options) < 0 ? -errno : 0;
}

static int mount_link(const struct shown *x, const char *home, size_t i)
{
	_cleanup_free_ char *link = xasprintf("%s/link-%zu", home, i), *target = xasprintf("/proc/self/fd/%d", x->fd);
	_cleanup_fd_ int tree = -1;
	struct stat st;

	/* Nothing there that a mount could cover: then only the shim shows it. */
	if (lstat(x->path, &st) < 0 || S_ISDIR(st.st_mode) || S_ISLNK(st.st_mode))
		return 0;
	if (symlink(target, link) < 0)
		return -errno;
	tree = (int)syscall(SYS_open_tree, AT_FDCWD, link, AT_SYMLINK_NOFOLLOW | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0)
		return -errno;
	if (syscall(SYS_move_mount, tree, "", AT_FDCWD, x->path, MOVE_MOUNT_F_EMPTY_PATH) < 0 && errno != ENOENT)
		return -errno; /* ENOENT: it is only shown, by the shim of a run that this one is in */
	return 0;
}

static int mount_all(const struct shown_list *l, const char *home, bool mapped, char **why)
{
	for (size_t i = 0; i < l->n; i++) {
		const struct shown *x = &l->all[i];
		_cleanup_free_ char *what = xasprintf("'%s' cannot be mounted at %s", x->name, x->path);
		int r = x->kind == RUN_TREE ? mount_tree(x, home, i, mapped) : mount_link(x, home, i);

		if (r < 0)
			return refuse(why, r, what);
	}
	return 0;
}

/* A tree of another user or group, or NULL: what is copied up must have owners that a user namespace knows. */
static const struct shown *foreign_tree(const struct shown_list *l)
{
	for (size_t i = 0; i < l->n; i++) {
		const struct shown *x = &l->all[i];
		struct stat st;

		if (x->kind == RUN_TREE && (x->foreign || stat(x->tree, &st) < 0 || st.st_uid != geteuid() || st.st_gid != getegid()))
			return x;
	}
	return NULL;
}

/* Over a tmpfs of kernels before 6.6, which has no user attributes, an overlay cannot replace directories. */
static int has_attributes(const char *home)
{
	static const char value[] = "1";

	return syscall(SYS_setxattr, home, "user.fixd", value, sizeof value, 0) < 0 ? -errno : 0;
}

/* The tmpfs ends with the run's last process, whatever is written to it. */
static int make_home(const char *home, char **why)
{
	if (mkdir(home, 0700) < 0 || mount("fixd", home, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0700") < 0)
		return refuse(why, -errno, "no tmpfs for what the run writes");
	return 0;
}

/* Where changes go: there, or where that cannot hold them to the file system of the scratch directory. */
static int choose_place(const char *home, const struct scratch *s, bool mapped, char **place, char **why)
{
	int r;

	*place = xstrdup(home);
	if (!mapped || has_attributes(home) == 0)
		return 0;
	free(*place);
	*place = xasprintf("%s/changes", s->path);
	if (mkdir(*place, 0700) < 0)
		return refuse(why, -errno, *place);
	r = has_attributes(*place);
	return r < 0 ? refuse(why, r,
			      "neither this kernel's tmpfs (Linux 6.6 has) nor the file system of TMPDIR (ext4 has) has attributes for overlayfs")
		     : 0;
}

/* What a user namespace would not show as it is: of that, NULL or a sentence. */
static char *unfit(const struct shown_list *l)
{
	const struct shown *foreign = foreign_tree(l);

	if (foreign)
		return xasprintf(
			"something in the tree of '%s' belongs to another user or group than this process, which a user namespace does not know",
			foreign->name);
	for (size_t i = 0; i < l->n; i++) {
		if (l->all[i].names)
			return xasprintf("files of '%s' have several names, which overlayfs takes apart in a user namespace",
					 l->all[i].name);
	}
	return NULL;
}

/* A file system tells those who watch it of its end. */
static int watch_end(const char *home, char **why)
{
	_cleanup_fd_ int fd = inotify_init1(IN_CLOEXEC);

	if (fd < 0 || inotify_add_watch(fd, home, IN_UNMOUNT | IN_ONLYDIR | IN_DELETE_SELF) < 0)
		return refuse(why, -errno, "the end of the run cannot be watched for (fs.inotify.max_user_instances)");
	return fd_steal(&fd);
}

int mounts_make(const struct shown_list *l, const struct scratch *s, int *ends, char **why)
{
	_cleanup_free_ char *home = xasprintf("%s/mounts", s->path), *here = getcwd(NULL, 0), *place = NULL;
	/* Once there is a namespace, all other users look the same. */
	_cleanup_free_ char *wrong = unfit(l);
	bool mapped = false;
	uid_t uid = geteuid();
	gid_t gid = getegid();
	int r = new_namespace(&mapped, why);

	if (r == 0 && mapped && wrong) {
		*why = xstrdup(wrong);
		r = -EOVERFLOW;
	}
	if (r == 0)
		r = make_home(home, why);
	if (r == 0)
		r = choose_place(home, s, mapped, &place, why);
	if (r == 0)
		r = mount_all(l, place, mapped, why);
	if (r == 0) {
		*ends = watch_end(home, why);
		r = *ends < 0 ? *ends : 0;
	}
	if (r == 0 && mapped)
		owners_refuse(uid, gid);
	/* Where we are may be covered now. */
	if (r == 0 && here && chdir(here) < 0)
		r = refuse(why, -errno, here);
	return r;
}

int *mounts_open(const struct shown_list *l)
{
	int *fds = xcalloc(l->n, sizeof *fds);

	for (size_t i = 0; i < l->n; i++)
		fds[i] = l->all[i].kind == RUN_TREE ? open(l->all[i].path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	return fds;
}

/* In a process of its own, which the attempt may leave in any state. */
char *mounts_refused(void)
{
	struct scratch s = { 0 };
	struct shown x = { .name = (char *)"a probe", .kind = RUN_TREE, .fd = -1 };
	struct shown_list l = { .all = &x, .n = 1 };
	char *why = NULL, said[512] = "";
	int pipes[2], ends, r = scratch_make(&s);
	pid_t pid;

	if (r < 0 || pipe2(pipes, O_CLOEXEC) < 0)
		return xasprintf("no scratch directory: %s", strerror(r < 0 ? -r : errno));
	x.tree = xasprintf("%s/fixtures", s.inner);
	x.path = xasprintf("%s/shown", s.path);
	mkdir(x.path, 0700);
	pid = fork();
	if (pid == 0) {
		r = mounts_make(&l, &s, &ends, &why);
		_exit(r == 0 || (why && write(pipes[1], why, strlen(why)) > 0) ? r != 0 : 2);
	}
	close(pipes[1]);
	if (read(pipes[0], said, sizeof said - 1) > 0)
		why = xstrdup(said);
	close(pipes[0]);
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	fd_close(s.lock);
	scratch_remove(s.path);
	free(x.tree);
	free(x.path);
	scratch_free(&s);
	return why;
}
