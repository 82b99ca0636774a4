// Package harness holds what the tests of the library and the scenario tests below internal/torture share: servers, clients,
// disks and common assertions. It knows the library by its public interface and by testhook; of the rooms behind
// them it uses fsys and crc64 alone.
//
// Tests in package ossdl cannot import it, because it imports that package. What they need, too, is in the packages
// checkpoints and leaks, which do not know the library.
package harness
