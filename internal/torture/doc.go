// Package torture holds the scenario tests: what a download comes to if networks, servers and callers do not behave, and, in
// the folder machine, if disks, file systems and processes do not. They know the library by its public interface alone, and
// the disk by the documented formats of its files.
//
// # Invariants and the tests that own them
//
//  1. The path is absent, old, or complete and verified.
//     TestEveryFileOperationFails and TestEveryNetworkEventFails fail each operation and event once.
//     TestEveryInstantIsACrash and TestCrashUponCrash kill a process or take the power away, at each moment.
//     TestKilledAHundredTimes does it to a process on a real disk, with kill -9.
//     TestPrefixEveryFileOperationFails, TestPrefixEveryInstantIsACrash and TestKilledInABatch do the same to batches.
//  2. A claim ahead of the disk, or a disk that changed, costs a fetch of that range, never a wrong file.
//     crashScene.mustHeal (of the tests above); TestCheckpointOfNoUse of the library's own tests.
//  3. No answer of another version, or of another range, is written.
//     TestWrongETag, TestWholeObjectInsteadOfRange, TestObjectChanges.
//  4. When a call returns, nothing of it is left.
//     crashScene.runInBubble and serverStage.call (of all tests that use them), TestThousandsOfDownloads.
//  5. The error says what happened first, to which key and range, with the request ID.
//     TestFirstErrorIsReported, TestErrorNamesKeyRangeAndRequest.
//  6. A second call or process on the same destination gets ErrInUse, and harms nothing.
//     TestOtherProcessBetweenTwoOperations, TestManyAtOnePath, TestNewcomerAtTheCommit.
//  7. Damaged, foreign, future or hostile checkpoints cost a fresh start at worst.
//     TestHostileCheckpoints, FuzzHostileCheckpoint, TestPlantedAtTheWorkingFiles for links; FuzzCheckpoint of the library.
//  8. Credentials and signatures are in no file, no error, no log.
//     TestNoSecretAnywhere; TestNoKeyAnywhere for the keys of encrypted objects.
//  9. A restore, which costs money, is asked for once.
//     TestRestorePrefix, TestRestoreFaults, TestRestoreLies.
//
// # Harnesses
//
// A serverStage is one object of a real server, on the wire, and the path that it is downloaded to. Lies are told to it.
// A crashScene is a download in a synctest bubble, with a disk in memory and a service without a network: hours pass at once,
// each file operation can fail, and the power can be taken away. A crashShelf is the same for a prefix. A wireScene fails
// each event of a connection. A harness.BubbleClient is for what takes time and nothing else. A harness.Outside is a real server
// for a bubble.
//
// The two packages run at the same time: no test measures time, and what one counts of its process is its own.
// What the tests have tried is counted and appended to the file that OSSDL_COUNTS names. OSSDL_LONG asks for their long forms.
package torture
