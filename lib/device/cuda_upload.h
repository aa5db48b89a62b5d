/* Large copies from pageable memory, such as mapped files, to a GPU: threads fill pinned pieces
 * while the card fetches the ones before. */
#ifndef DEVICE_CUDA_UPLOAD_H
#define DEVICE_CUDA_UPLOAD_H

#include "device/device.h"

struct device_upload;

infer_status device_upload_create(struct device_upload **out, struct infer_device *device);

/* When it returns, src has been read; the copy follows in the device's stream. */
infer_status device_upload_put(struct device_upload *upload, void *dst, const void *src,
                               size_t bytes);

/* Waits for all copies and says whether they were done. NULL-safe, sets NULL. */
infer_status device_upload_destroy(struct device_upload **upload);

#endif
